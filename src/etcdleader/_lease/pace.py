"""When the next renewal of a lease is due. Pure: the caller passes the time and the random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from .backoff import Backoff
from .lease_clock import Timing

__all__ = ("Pace",)

_CALLS_OF_A_MOVE = 2.2
"""In units of ``retry``: one LeaseGrant or Txn without a response, then both with one."""
_EARLY = 0.1
"""By which share of ``renew`` a renewal may come too early, to go along with others."""


class Pace:
    """Renewals start ``renew`` seconds apart, counted from the sending of the last one that succeeded."""

    __slots__ = ("_backoff", "_early", "_last", "_not_before", "_renew", "_retry", "_uniform")

    def __init__(self, timing: Timing, uniform: Callable[[float, float], float]) -> None:
        self._renew = timing.renew
        self._retry = timing.retry
        self._uniform = uniform
        self._backoff = Backoff(timing.retry, uniform)
        self._not_before = -math.inf
        self._early = 0.0
        self._last = math.inf

    def due_in(self, sent_at: float, now: float) -> float | None:
        """Seconds until the renewal after the one that left at ``sent_at``; None: there is none any more."""
        if self.is_over(now):
            return None
        return max(sent_at + self._renew - self._early, self._not_before) - now

    def is_over(self, now: float) -> bool:
        """Whether there is no renewal any more."""
        return now >= self._last

    def may_come_early(self, due_in: float, now: float) -> bool:
        """Whether it may start now, to go along with others. Not after one that failed."""
        return due_in <= self._renew * _EARLY and self._not_before <= now

    def draw_move(self, trusted: float) -> float:
        """Draw the delay of a move, in seconds, if the lease is trusted for ``trusted`` seconds. Many keys move at once.

        No former leader of etcd can revoke the lease within that time. One lost response must not cost the leadership.
        """
        latest = min(self._renew, trusted / 2, trusted - _CALLS_OF_A_MOVE * self._retry)
        return self._uniform(0.0, max(0.0, latest))

    def spread(self) -> None:
        """Let the next one be due after a part of ``renew``, at random: later ones keep that distance."""
        self._early = self._uniform(0.0, 0.9) * self._renew

    def postpone(self, now: float) -> None:
        """The last renewal failed: wait before the next one."""
        self._not_before = now + self._backoff.next()

    def succeeded(self) -> None:
        """The last renewal succeeded: the next one is due after ``renew``."""
        self._backoff.reset()
        self._not_before = -math.inf
        self._early = 0.0

    def end_at(self, moment: float) -> None:
        """Start none from this moment on."""
        self._last = min(self._last, moment)
