"""The planted bugs below the election: in leases, moves, connections, registrations and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bug import Bug, Forker
from tests.planted.groups import IN_LEASES


@pytest.mark.parametrize("bug", IN_LEASES, ids=lambda bug: bug.name)
def test_a_planted_bug_turns_its_test_red(bug: Bug, tmp_path: Path, forker: Forker) -> None:
    forker.check_that_its_test_turns_red(bug, tmp_path)
