"""Each rule is broken on purpose, in a copy of the package, and a named test must detect it.

This checks the tests: a test that passes with the bug in place proves nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.planted.bug import PACKAGE, RULES, Bug, Forker, find_tests
from tests.planted.change import plant
from tests.planted.groups import BUGS, IN_ELECTIONS


@pytest.mark.parametrize("bug", IN_ELECTIONS, ids=lambda bug: bug.name)
def test_a_planted_bug_turns_its_test_red(bug: Bug, tmp_path: Path, forker: Forker) -> None:
    forker.check_that_its_test_turns_red(bug, tmp_path)


def test_each_rule_is_broken_at_least_once() -> None:
    assert {bug.rule for bug in BUGS} == set(RULES)
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


def test_every_defined_bug_is_planted() -> None:
    """A group or a file that no list names would never be planted."""
    written = [
        ast.literal_eval(node.args[0])
        for path in sorted((Path(__file__).parent / "bugs").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Bug"
    ]
    assert sorted(written) == sorted(bug.name for bug in BUGS)


def test_the_copy_is_tested_and_no_test_is_red_without_a_bug(tmp_path: Path, forker: Forker) -> None:
    """Otherwise a red test would prove nothing."""
    test = tmp_path / "test_which.py"
    test.write_text(
        "import subprocess, sys\n"
        "import etcdleader\n\n"
        "def test_which():\n"
        "    assert etcdleader.__file__.startswith(FOLDER)\n"
        "    script = 'import etcdleader; print(etcdleader.__file__)'\n"
        "    assert subprocess.check_output([sys.executable, '-c', script], text=True).startswith(FOLDER)\n".replace(
            "FOLDER", repr(str(tmp_path))
        )
    )
    folder = plant(PACKAGE, tmp_path)
    assert forker.run_tests(folder, f"{test}::test_which").returncode == 0
    assert forker.run_tests(folder, *find_tests("test_a_lone_candidate_leads")).returncode == 0


def test_a_test_that_hangs_has_failed(tmp_path: Path, forker: Forker) -> None:
    test = tmp_path / "test_hanging.py"
    test.write_text("import time\n\ndef test_hanging():\n    print('it began', flush=True)\n    time.sleep(600)\n")
    done = forker.run_tests(tmp_path, f"{test}::test_hanging", seconds=5)
    assert done.returncode == 1
    assert "it hung" in done.stdout
