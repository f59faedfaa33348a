from __future__ import annotations

import itertools

import pytest

from etcdleader._managers.status import TRANSITIONS, Outcome, next_status
from etcdleader.model import LeaderStatus


def test_a_term_is_won_by_who_has_none_and_lost_by_who_has_one() -> None:
    assert next_status(LeaderStatus.INIT, Outcome.WON) is LeaderStatus.ELECTED
    assert next_status(LeaderStatus.ELECTED, Outcome.LOST) is LeaderStatus.OUSTED
    assert next_status(LeaderStatus.OUSTED, Outcome.WON) is LeaderStatus.ELECTED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [pair for pair in itertools.product(LeaderStatus, Outcome) if pair not in TRANSITIONS],
)
def test_what_cannot_happen_is_an_error(status: LeaderStatus, outcome: Outcome) -> None:
    """Two terms at once, or the end of a term that never was: silence would hide a broken manager."""
    with pytest.raises(RuntimeError, match=status.name):
        next_status(status, outcome)
