"""A planted bug: a deliberate mistake in a copy of the package, and the test that must detect it.

The folder ``bugs`` has the bugs, grouped by the rules that they break. To add one, name the rule and the test. Quote
the shortest text that identifies the place, and write the mistake.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.planted.change import Change, plant
from tests.planted.forker import HUNG

__all__ = ("PACKAGE", "RULES", "Bug", "Forker", "find_tests")

RULES = (
    "clock",
    "deadline",
    "confirmed renewal",
    "raft term",
    "move",
    "own key",
    "scope",
    "overrun",
    "one way out",
    "candidacy",
    "token",
    "state",
    "fork",
    "observing",
    "fencing",
    "views",
    "sparing etcd",
    "connection",
    "secrets",
    "registration",
    "once",
    "programs",
)
"""The promises of docs/design.md, in its terms."""

_ROOT = Path(__file__).parents[2]
PACKAGE = _ROOT / "src" / "etcdleader"
_TIME_LIMIT = 120
"""Seconds.

This is far more than any of these tests takes on virtual time. It also ends a test that a bug makes hang.
"""
_OPTIONS = (
    "-q",
    "-x",
    "--no-header",
    "--tb=line",
    "--import-mode=importlib",
    "--override-ini=addopts=",
    # These tests do not need them, and they take time to load or to write.
    "-pno:cacheprovider",
    "-pno:hypothesispytest",
    "-pno:xdist",
    "--assert=plain",
)


_BROKEN = re.compile(r"\b(AttributeError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError)\b")
"""Errors after a renaming that the bug has not followed. They would turn any test red."""


@dataclass(frozen=True)
class Bug(Change):
    """A plausible mistake in the package.

    Attributes:
        name: The mistake.
        rule: The one of ``RULES`` that it breaks.
        test: The test that turns red: the beginning of its name.
    """

    name: str
    rule: str
    test: str = field(kw_only=True)


def find_tests(beginning: str, tests: Path = _ROOT / "tests") -> list[str]:
    """Find the tests whose names begin like this, in any file. Return pytest's arguments to run them.

    Raises:
        AssertionError: No file has such a test, or several files have one.
    """
    files = {path: names for path, all_names in _tests(tests) if (names := _beginning(beginning, all_names))}
    if not files:
        raise AssertionError(f"no file in {tests} has a test whose name begins with {beginning!r}")
    if len(files) > 1:
        found = "".join(f"\n  {path}: {', '.join(names)}" for path, names in files.items())
        raise AssertionError(f"{len(files)} files have tests whose names begin with {beginning!r}{found}")
    ((path, names),) = files.items()
    return [f"{path}::{name}" for name in names]


def _beginning(beginning: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(beginning)]


@functools.cache
def _tests(folder: Path) -> list[tuple[Path, list[str]]]:
    return [
        (path, re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in sorted(folder.rglob("test_*.py"))
    ]


class Forker:
    """Runs each test in a forked process, which need not load pytest, both loops and gRPC first."""

    def __init__(self) -> None:
        """Start the process that forks."""
        environment = {**os.environ, "PYTHONPATH": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("forker.py"))],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_tests(self, folder: Path, *tests: str, seconds: float = _TIME_LIMIT) -> subprocess.CompletedProcess[str]:
        """Run tests on the package in ``folder``. A test that hangs has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        arguments = [*_OPTIONS, *tests]
        output = folder / "output"
        order = {"folder": str(folder), "arguments": arguments, "output": str(output), "seconds": seconds}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = json.loads(self._process.stdout.readline())
        said = output.read_text(encoding="utf-8")
        if code == HUNG:
            return subprocess.CompletedProcess(arguments, 1, f"{said}\n1 failed: it hung")
        return subprocess.CompletedProcess(arguments, code, said)

    def check_that_its_test_turns_red(self, bug: Bug, folder: Path) -> None:
        """Plant the bug in ``folder``, and run the test that must detect it."""
        tests = find_tests(bug.test)
        done = self.run_tests(plant(PACKAGE, folder, bug), *tests)
        assert done.returncode == 1, f"{' '.join(tests)} did not notice:\n{done.stdout}"
        assert "failed" in done.stdout
        wrong = _BROKEN.search(done.stdout)
        assert wrong is None, f"{bug.name} is no bug but a broken program ({wrong}):\n{done.stdout}"

    def close(self) -> None:
        """End the process that forks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
