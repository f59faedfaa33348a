"""A planted bug: one place in the product, broken on purpose in a copy of it, and the test that must notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ("ROOT", "Bug", "check_that_its_test_turns_red", "plant", "run_tests")

ROOT = Path(__file__).parents[2]
_TIME_LIMIT = 120
"""Seconds. Far more than any of these tests takes on virtual time; a bug that makes one hang is found by that, too."""


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


def run_tests(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run a test on the package in ``folder``; one that hangs has failed."""
    file, _, name = test.partition("::")
    options = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--no-header",
        "--tb=line",
        "--override-ini=addopts=",
    ]
    command = [sys.executable, "-m", "pytest", *options, "--import-mode=importlib", file]
    try:
        return subprocess.run(
            [*command, "-k", name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        output = hung.stdout.decode(errors="replace") if isinstance(hung.stdout, bytes) else str(hung.stdout)
        return subprocess.CompletedProcess(command, 1, f"{output}\n1 failed: it hung", "")


def check_that_its_test_turns_red(bug: Bug, folder: Path) -> None:
    """Plant it in ``folder``, and run the test that must notice."""
    done = run_tests(plant(bug, folder), bug.test)
    assert done.returncode == 1, f"{bug.test} did not notice:\n{done.stdout}{done.stderr}"
    assert "failed" in done.stdout
