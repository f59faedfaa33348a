"""The schedule of a lease's renewals. Pure: the caller passes the time and the random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from .backoff import Backoff
from .lease_deadline import Timing

_MOVE_RETRIES = 2.2
"""The time that a move may need, in units of ``retry``: one call without a response, then a LeaseGrant and a Txn."""
_EARLY_SHARE = 0.1
"""The share of ``renew`` by which a renewal may start early, to join a round with others."""


class RenewalSchedule:
    """The times of a lease's renewals. Each is due ``renew`` seconds after the last successful one was sent."""

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
        """Return the seconds until the renewal after the one sent at ``sent_at``; None if the schedule has ended."""
        if self.is_over(now):
            return None
        return max(sent_at + self._renew - self._early, self._not_before) - now

    def is_over(self, now: float) -> bool:
        """Return whether the schedule has ended."""
        return now >= self._last

    def can_come_early(self, due_in: float, now: float) -> bool:
        """Return whether the next renewal may start now, to join a round with others. During a back-off it may not."""
        return due_in <= self._renew * _EARLY_SHARE and self._not_before <= now

    def draw_move_delay(self, trusted: float) -> float:
        """Draw the delay of a move, in seconds, for a lease that is trusted for ``trusted`` more seconds.

        The delay is random, because many keys move at the same time. No former leader of etcd can revoke the lease while
        it is trusted. Enough of that time remains after the delay that one lost response does not cost the leadership.
        """
        latest = min(self._renew, trusted / 2, trusted - _MOVE_RETRIES * self._retry)
        return self._uniform(0.0, max(0.0, latest))

    def add_jitter(self) -> None:
        """Make the next renewal due after a random fraction of ``renew``. Later ones keep the offset."""
        self._early = self._uniform(0.0, 0.9) * self._renew

    def postpone(self, now: float) -> None:
        """Postpone the next renewal by the back-off, because the last one failed."""
        self._not_before = now + self._backoff.next()

    def succeeded(self) -> None:
        """Reset the back-off, because the last renewal succeeded. The next one is due after ``renew``."""
        self._backoff.reset()
        self._not_before = -math.inf
        self._early = 0.0

    def end_at(self, moment: float) -> None:
        """Start no renewal at or after ``moment``."""
        self._last = min(self._last, moment)
