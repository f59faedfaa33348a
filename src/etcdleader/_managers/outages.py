"""Which failures are news, and when an outage is over. Pure: a table of states and inputs.

An outage begins with a failure. While it lasts, each kind of error is news once. It ends with a confirmed renewal; with
any answer, unless renewals fail; and never while a watch is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Any

from ..errors import EtcdLeaderError

_NONE: frozenset[Any] = frozenset()
"""Shared: a set of its own, even an empty one, takes 216 bytes, and there may be ten thousand managers."""


class State(IntEnum):
    """What fails. The number is the column of the table."""

    FINE = 0
    """Nothing."""
    TROUBLE = 1
    """Calls."""
    FAILING = 2
    """Renewals."""
    CRITICAL = 3
    """Renewals, and less than a third of the lease was left."""
    BLIND = 4
    """A watch is missing."""
    BLIND_FAILING = 5
    """A watch is missing, and renewals fail."""
    BLIND_CRITICAL = 6
    """A watch is missing, and renewals fail with less than a third of the lease left."""

    @property
    def renewals_fail(self) -> bool:
        """Whether a renewal was not confirmed, and nothing has ended the outage since."""
        return self not in {State.FINE, State.TROUBLE, State.BLIND}

    @property
    def critical(self) -> bool:
        """Whether less than a third of the lease was left at a failed renewal."""
        return self in {State.CRITICAL, State.BLIND_CRITICAL}


class Input(Enum):
    """What happens."""

    CALL_FAILED = "a call failed"
    RENEWAL_FAILED = "a renewal was not confirmed"
    RENEWAL_FAILED_LATE = "a renewal was not confirmed, and less than a third of the lease is left"
    WATCH_FAILED = "a watch broke or was refused"
    ANSWERED = "a call succeeded"
    RENEWED = "a renewal was confirmed"
    WATCHES_BACK = "no watch is missing"
    WATCHES_BACK_IDLE = "no watch is missing, and no campaign runs, so nothing is renewed"
    CANDIDACY_ENDED = "the lease is given up; the next candidacy has its own"


class News(Enum):
    """What to report."""

    KIND = "the first error of its kind in this outage"
    RENEWALS_FAIL = "renewals began to fail"
    CRITICAL = "renewals still fail, and less than a third of the lease is left"
    OVER = "the outage is over"


FINE, TROUBLE, FAILING, CRITICAL, BLIND, BLIND_FAILING, BLIND_CRITICAL = State

TRANSITIONS: dict[Input, tuple[State, ...]] = {
    # from: FINE, TROUBLE, FAILING, CRITICAL, BLIND, BLIND_FAILING, BLIND_CRITICAL
    Input.CALL_FAILED: (TROUBLE, TROUBLE, FAILING, CRITICAL, BLIND, BLIND_FAILING, BLIND_CRITICAL),
    Input.RENEWAL_FAILED: (FAILING, FAILING, FAILING, CRITICAL, BLIND_FAILING, BLIND_FAILING, BLIND_CRITICAL),
    Input.RENEWAL_FAILED_LATE: (CRITICAL, CRITICAL, CRITICAL, CRITICAL, BLIND_CRITICAL, BLIND_CRITICAL, BLIND_CRITICAL),
    Input.WATCH_FAILED: (BLIND, BLIND, BLIND_FAILING, BLIND_CRITICAL, BLIND, BLIND_FAILING, BLIND_CRITICAL),
    Input.ANSWERED: (FINE, FINE, FAILING, CRITICAL, BLIND, BLIND_FAILING, BLIND_CRITICAL),
    Input.RENEWED: (FINE, FINE, FINE, FINE, BLIND, BLIND_FAILING, BLIND_CRITICAL),
    Input.WATCHES_BACK: (FINE, TROUBLE, FAILING, CRITICAL, TROUBLE, FAILING, CRITICAL),
    Input.WATCHES_BACK_IDLE: (FINE, FINE, FINE, FINE, FINE, FINE, FINE),
    Input.CANDIDACY_ENDED: (FINE, TROUBLE, TROUBLE, TROUBLE, BLIND, BLIND, BLIND),
}


class Outages:
    """The outages of one manager, one after the other.

    Attributes:
        state: What fails now.
        kinds: The kinds of errors in this outage; empty while there is none.
    """

    __slots__ = ("_blind", "kinds", "state")

    def __init__(self) -> None:
        self.state = FINE
        self.kinds: frozenset[type[EtcdLeaderError]] = _NONE
        self._blind: frozenset[object] = _NONE

    def take(self, happened: Input, kind: type[EtcdLeaderError] | None = None) -> Sequence[News]:
        """Change the state, and return what is news.

        Args:
            happened: Not ``WATCH_FAILED`` nor one of ``WATCHES_BACK``: watches have methods of their own.
            kind: The error's, of a failure.
        """
        before = self.state
        if before is FINE and kind is None:
            return ()  # nearly always: nothing fails, and a renewal is confirmed
        self.state = after = TRANSITIONS[happened][before]
        news: list[News] = []
        if kind is not None and kind not in self.kinds:
            self.kinds |= {kind}
            news.append(News.KIND)
        if after is before:
            return news
        if after is FINE:
            self.kinds = _NONE
            news.append(News.OVER)
        if after.renewals_fail and not before.renewals_fail:
            news.append(News.RENEWALS_FAIL)
        if after.critical and not before.critical:
            news.append(News.CRITICAL)
        return news

    def watch_failed(self, watcher: object, kind: type[EtcdLeaderError]) -> Sequence[News]:
        """Take in that ``watcher`` has no watch."""
        self._blind |= {watcher}
        return self.take(Input.WATCH_FAILED, kind)

    def watch_back(self, watcher: object, *, campaigning: bool) -> Sequence[News]:
        """Take in that ``watcher`` has its watch, or needs none any more."""
        if watcher in self._blind:
            self._blind = self._blind - {watcher} or _NONE
        if self._blind:
            return ()
        return self.take(Input.WATCHES_BACK if campaigning else Input.WATCHES_BACK_IDLE)
