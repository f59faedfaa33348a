"""A planted bug: one place in the product, broken on purpose in a copy of it, and the test that must notice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.planted.forker import HUNG

__all__ = ("ROOT", "Bug", "Forker", "plant")

ROOT = Path(__file__).parents[2]
_TIME_LIMIT = 120
"""Seconds. Far more than any of these tests takes on virtual time; a bug that makes one hang is found by that, too."""
_OPTIONS = (
    "-q",
    "-x",
    "--no-header",
    "--tb=line",
    "--import-mode=importlib",
    "--override-ini=addopts=",
    # What these bugs' tests do not need, and which takes its time to load or to write.
    "-pno:cacheprovider",
    "-pno:hypothesispytest",
    "-pno:xdist",
    "--assert=plain",
)


@dataclass(frozen=True)
class Bug:
    """What somebody might write, or forget.

    Attributes:
        name: What is wrong then.
        rule: The rule of docs/design.md that it breaks.
        file: Where, below ``src/etcdleader``.
        right: The text as it stands there, exactly once.
        wrong: What is put in its place.
        test: The test that turns red: a file, and the beginning of a name.
    """

    name: str
    rule: str
    file: str
    right: str
    wrong: str
    test: str


def plant(bug: Bug | None, folder: Path) -> Path:
    """Copy the package to ``folder``, with the bug in it; returns what belongs on the import path."""
    shutil.copytree(ROOT / "src" / "etcdleader", folder / "etcdleader")
    if bug is not None:
        path = folder / "etcdleader" / bug.file
        text = path.read_text(encoding="utf-8")
        assert text.count(bug.right) == 1, f"{bug.file} has this {text.count(bug.right)} times:\n{bug.right}"
        path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    return folder


class Forker:
    """Runs tests, each time in a process of its own that need not load pytest, both loops and gRPC first."""

    def __init__(self) -> None:
        """Start it."""
        environment = {**os.environ, "PYTHONPATH": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("forker.py"))],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_tests(self, folder: Path, test: str, *, seconds: float = _TIME_LIMIT) -> subprocess.CompletedProcess[str]:
        """Run a test on the package in ``folder``; one that hangs has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        file, _, name = test.partition("::")
        arguments = [*_OPTIONS, file, "-k", name]
        output = folder / "output"
        order = {"folder": str(folder), "arguments": arguments, "output": str(output), "seconds": seconds}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = json.loads(self._process.stdout.readline())
        said = output.read_text(encoding="utf-8")
        if code == HUNG:
            return subprocess.CompletedProcess(arguments, 1, f"{said}\n1 failed: it hung")
        return subprocess.CompletedProcess(arguments, code, said)

    def check_that_its_test_turns_red(self, bug: Bug, folder: Path) -> None:
        """Plant it in ``folder``, and run the test that must notice."""
        done = self.run_tests(plant(bug, folder), bug.test)
        assert done.returncode == 1, f"{bug.test} did not notice:\n{done.stdout}"
        assert "failed" in done.stdout

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
