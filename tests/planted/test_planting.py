"""Plant a bug. One that does not fit the code, or whose test does not exist, is an error and no success."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bug import find_tests
from tests.planted.change import Change, plant

LEASE = '''
PACE: float = 5
if PACE:
    REST = 1

class Lease:
    """It has a ttl."""

    def confirm(self, sent_at, ttl):
        if not self.is_valid(sent_at):
            return False
        self.sent_at = sent_at
        return True

    @property
    def left(self):
        return self.sent_at
'''
WATCH = """
class Watch:
    async def confirm(self, sent_at):
        self.sent_at = sent_at

    def open(self, messages):
        def sink(message):
            if message:
                messages.append(message)

        return sink
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write(tmp_path / "package", {"lease.py": LEASE, "deeper/watch.py": WATCH})


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def planted(package: Path, within: str, pattern: str, replacement: str) -> str:
    """Return the text of both modules, with the change in one of them."""
    change = Change(within=within, pattern=pattern, replacement=replacement)
    folder = plant(package, package.parent / "planted", change)
    assert folder == package.parent / "planted"
    assert (package / "lease.py").read_text() == LEASE
    return "".join((folder / "package" / name).read_text() for name in ("lease.py", "deeper/watch.py"))


def refused(package: Path, within: str, pattern: str, replacement: str) -> str:
    with pytest.raises(AssertionError) as caught:
        planted(package, within, pattern, replacement)
    return str(caught.value)


@pytest.mark.parametrize(
    ("within", "pattern", "replacement", "right", "wrong"),
    [
        pytest.param("PACE", "5", "6", "PACE: float = 5", "PACE: float = 6", id="a constant"),
        pytest.param("REST", "= .+", "= 2", "REST = 1", "REST = 2", id="a constant under a condition"),
        pytest.param("left", "@property", "", "    @property\n", "    \n", id="a decorator"),
        pytest.param("sink", r"if \w+:", "if True:", "if message:", "if True:", id="a function in a function"),
        pytest.param("open", r"if \w+:", "if True:", "if message:", "if True:", id="the function around it"),
        pytest.param("Watch", r"if \w+:", "if True:", "if message:", "if True:", id="the class around it"),
        pytest.param(
            "Watch.confirm", "= sent_at", "= 0", "self.sent_at = sent_at\n\n", "self.sent_at = 0\n\n",
            id="a qualified name",
        ),
        pytest.param(
            "confirm", r"if not (\S+) return False", r"if \g<1> return True",
            "if not self.is_valid(sent_at):\n            return False", "if self.is_valid(sent_at): return True",
            id="white space and groups",
        ),
    ],
)  # fmt: skip
def test_a_change_is_made_in_the_named_definition(
    package: Path, within: str, pattern: str, replacement: str, right: str, wrong: str
) -> None:
    whole = LEASE + WATCH
    assert whole.count(right) == 1
    assert planted(package, within, pattern, replacement) == whole.replace(right, wrong)


def test_further_lines_are_indented_as_the_first_one(package: Path) -> None:
    changed = planted(package, "sink", r" (messages)\.append.+", "\nfor one in \\g<1>:\n    print(one)\nreturn")
    assert (
        "            if message:\n"
        "                for one in messages:\n"
        "                    print(one)\n"
        "                return\n"
    ) in changed  # fmt: skip


def test_a_reformatted_definition_is_still_found(package: Path) -> None:
    write(package, {"lease.py": LEASE.replace("(self, sent_at, ttl)", "(\n        self,\n        sent_at, ttl\n    )")})
    folder = plant(
        package, package.parent / "planted", Change(within="confirm", pattern=", sent_at, ttl", replacement="")
    )
    assert "def confirm(\n        self\n    ):" in (folder / "package" / "lease.py").read_text()


def test_several_changes_are_made_one_after_another(package: Path) -> None:
    first = Change(within="left", pattern=r"return .+", replacement="return PACE")
    second = Change(within="left", pattern="PACE", replacement="REST")
    folder = plant(package, package.parent / "planted", first, second)
    assert "return REST" in (folder / "package" / "lease.py").read_text()


@pytest.mark.parametrize("name", ["grant", "Watch.left", "ttl"])
def test_a_name_that_no_definition_has_is_an_error(package: Path, name: str) -> None:
    assert f"within {name!r}: nothing in package has that name" in refused(package, name, "x", "y")


def test_a_pattern_without_a_match_is_an_error(package: Path) -> None:
    message = refused(package, "confirm", "= ttl", "= 0")
    assert "'= ttl' within 'confirm' is not found" in message
    assert "lease.py:9 in Lease.confirm" in message
    assert "deeper/watch.py:3 in Watch.confirm" in message


def test_a_pattern_with_two_matches_is_an_error(package: Path) -> None:
    message = refused(package, "confirm", r"return (True|False)", "return None")
    assert "is found 2 times" in message
    assert "lease.py:11 in Lease.confirm: return False" in message
    assert "lease.py:13 in Lease.confirm: return True" in message


def test_a_pattern_that_matches_in_two_functions_of_one_name_is_an_error(package: Path) -> None:
    message = refused(package, "confirm", "= sent_at", "= 0")
    assert "is found 2 times" in message
    assert "in Lease.confirm: = sent_at" in message
    assert "in Watch.confirm: = sent_at" in message


@pytest.mark.parametrize(
    ("replacement", "why"), [("", "expected an indented block"), ("await message", "'await' outside async function")]
)
def test_a_bug_that_does_not_compile_is_an_error(package: Path, replacement: str, why: str) -> None:
    message = refused(package, "sink", r"messages\.append.+", replacement)
    assert "in Watch.open.sink: messages.append(message)" in message
    assert f"does not compile with {replacement!r} instead: {why}" in message


def test_a_bug_that_changes_nothing_is_an_error(package: Path) -> None:
    assert "means the same with 'PACE :  float' instead" in refused(package, "PACE", "PACE: float", "PACE :  float")


@pytest.mark.parametrize("replacement", ["receipt", "messages.receipt", "open(receipt=message)"])
def test_a_bug_that_names_an_unknown_function_is_refused(package: Path, replacement: str) -> None:
    """Its test would turn red whatever it checks."""
    assert "package has no receipt" in refused(package, "sink", r"messages\.append.+", replacement)


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    first = "def helper(): ...\n\n\nasync def test_a_lease_ends(): ...\n\n\ndef test_a_lease_begins(): ...\n"
    second = "def test_a_key_is_put(): ...\n\n\ndef test_a_lease_is_let_go(): ...\n"
    return write(tmp_path / "tests", {"test_lease.py": first, "deeper/test_key.py": second, "helpers.py": second})


def test_tests_are_found_by_the_beginning_of_their_names(tests: Path) -> None:
    assert find_tests("test_a_key", tests) == [f"{tests}/deeper/test_key.py::test_a_key_is_put"]
    assert find_tests("test_a_lease_ends", tests) == [f"{tests}/test_lease.py::test_a_lease_ends"]


def test_several_tests_of_one_file_may_begin_alike(tests: Path) -> None:
    (tests / "deeper" / "test_key.py").unlink()
    names = ("test_a_lease_ends", "test_a_lease_begins")
    assert find_tests("test_a_lease", tests) == [f"{tests}/test_lease.py::{name}" for name in names]


@pytest.mark.parametrize("beginning", ["test_a_lease_is_granted", "a_key_is_put", "helper"])
def test_a_missing_test_is_an_error(tests: Path, beginning: str) -> None:
    with pytest.raises(AssertionError, match=f"has a test whose name begins with '{beginning}'"):
        find_tests(beginning, tests)


def test_tests_of_two_files_that_begin_alike_are_an_error(tests: Path) -> None:
    with pytest.raises(AssertionError, match="2 files have tests whose names begin with 'test_a_lease'") as caught:
        find_tests("test_a_lease", tests)
    assert "test_key.py: test_a_lease_is_let_go" in str(caught.value)
    assert "test_lease.py: test_a_lease_ends, test_a_lease_begins" in str(caught.value)
