"""The other half of the planted bugs, which another process can go through at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bug import Bug, Forker
from tests.planted.bugs import BUGS


@pytest.mark.parametrize("bug", BUGS[1::2], ids=lambda bug: bug.name)
def test_a_planted_bug_turns_its_test_red(bug: Bug, tmp_path: Path, forker: Forker) -> None:
    forker.check_that_its_test_turns_red(bug, tmp_path)
