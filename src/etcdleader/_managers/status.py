"""The one table of what may follow what. An impossible input raises and changes nothing."""

from __future__ import annotations

from enum import Enum

from ..model import LeaderStatus

__all__ = ("TRANSITIONS", "Outcome", "next_status")


class Outcome(Enum):
    """What happens to a status."""

    WON = "won"
    LOST = "lost"


TRANSITIONS: dict[tuple[LeaderStatus, Outcome], LeaderStatus] = {
    (LeaderStatus.INIT, Outcome.WON): LeaderStatus.ELECTED,
    (LeaderStatus.ELECTED, Outcome.LOST): LeaderStatus.OUSTED,
    (LeaderStatus.OUSTED, Outcome.WON): LeaderStatus.ELECTED,
}


def next_status(status: LeaderStatus, outcome: Outcome) -> LeaderStatus:
    """The status after ``outcome``.

    Raises:
        RuntimeError: That cannot happen in this status: the caller is broken.
    """
    try:
        return TRANSITIONS[status, outcome]
    except KeyError:
        raise RuntimeError(f"a manager that is {status.name} cannot have {outcome.value}") from None
