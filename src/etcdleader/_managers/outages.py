"""Outages: which failures to report, and when an outage ends. A state table, without I/O.

An outage begins with a failure. While it lasts, each kind of error is news once. If no watch is missing, these end it:

- a confirmed renewal;
- any other response from etcd, unless renewals fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Any

from ..errors import EtcdLeaderError

_NONE: frozenset[Any] = frozenset()
"""Shared by all managers: even an empty set takes 216 bytes, and there may be ten thousand managers."""


class State(IntEnum):
    """The kind of failure. The number is the column of the table."""

    FINE = 0
    """There is no failure."""
    TROUBLE = 1
    """Calls fail."""
    FAILING = 2
    """Renewals fail."""
    CRITICAL = 3
    """Renewals fail, and less than a third of the lease was left."""
    BLIND = 4
    """A watch is missing."""
    BLIND_FAILING = 5
    """A watch is missing, and renewals fail."""
    BLIND_CRITICAL = 6
    """A watch is missing, and renewals fail with less than a third of the lease left."""

    @property
    def renewals_fail(self) -> bool:
        """True if a renewal was not confirmed, and the outage has not ended since."""
        return self not in {State.FINE, State.TROUBLE, State.BLIND}

    @property
    def critical(self) -> bool:
        """True if less than a third of the lease was left at a failed renewal."""
        return self in {State.CRITICAL, State.BLIND_CRITICAL}


class Input(Enum):
    """An event that may change the state."""

    CALL_FAILED = "a call failed"
    RENEWAL_FAILED = "a renewal was not confirmed"
    RENEWAL_FAILED_LATE = "a renewal was not confirmed, and less than a third of the lease is left"
    WATCH_FAILED = "a watch broke or was refused"
    ANSWERED = "a call succeeded"
    RENEWED = "a renewal was confirmed"
    WATCHES_BACK = "no watch is missing"
    WATCHES_BACK_IDLE = "no watch is missing, and no campaign runs, so no lease is renewed"
    CANDIDACY_ENDED = "the lease is released; the next candidacy has its own"


class News(Enum):
    """A fact to report."""

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
    Input.RENEWED: (FINE, FINE, FINE, FINE, BLIND, BLIND, BLIND),
    Input.WATCHES_BACK: (FINE, TROUBLE, FAILING, CRITICAL, TROUBLE, FAILING, CRITICAL),
    Input.WATCHES_BACK_IDLE: (FINE, FINE, FINE, FINE, FINE, FINE, FINE),
    Input.CANDIDACY_ENDED: (FINE, TROUBLE, TROUBLE, TROUBLE, BLIND, BLIND, BLIND),
}


class Outages:
    """The outages of one manager, one after the other.

    Attributes:
        state: The current failure.
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
            happened: The event. For watches, call ``watch_failed`` and ``watch_back`` instead.
            kind: The kind of error; None if the event is no failure.
        """
        before = self.state
        if before is FINE and kind is None:
            return ()  # nearly always: there is no outage, and a renewal is confirmed
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
        """Record that ``watcher`` has no watch, and return what is news."""
        self._blind |= {watcher}
        return self.take(Input.WATCH_FAILED, kind)

    def watch_back(self, watcher: object, *, campaigning: bool) -> Sequence[News]:
        """Record that ``watcher`` has its watch, or no longer needs one. Return what is news."""
        if watcher in self._blind:
            self._blind = self._blind - {watcher} or _NONE
        if self._blind:
            return ()
        return self.take(Input.WATCHES_BACK if campaigning else Input.WATCHES_BACK_IDLE)
