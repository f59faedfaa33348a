"""Each rule is broken on purpose, in a copy of the package, and a test by name must notice.

What this holds to account is the tests: one that passes with the bug in place shows nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.bug import ROOT, Bug, check_that_its_test_turns_red, plant, run_tests
from tests.planted.bugs import BUGS, RULES


@pytest.mark.parametrize("bug", BUGS[::2], ids=lambda bug: bug.name)
def test_a_planted_bug_turns_its_test_red(bug: Bug, tmp_path: Path) -> None:
    """The other half is in ``test_planted_bugs_too.py``: a file's tests run one after another."""
    check_that_its_test_turns_red(bug, tmp_path)


def test_each_rule_is_broken_at_least_once() -> None:
    assert {bug.rule for bug in BUGS} == set(RULES)
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


def test_the_copy_is_what_is_tested_and_without_a_bug_nothing_is_red(tmp_path: Path) -> None:
    """Otherwise red would say nothing."""
    folder = plant(None, tmp_path)
    script = "import etcdleader; print(etcdleader.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(str(tmp_path))
    assert run_tests(folder, "tests/sim/test_winning.py::test_a_lone_candidate").returncode == 0
