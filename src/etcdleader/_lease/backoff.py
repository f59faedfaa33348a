"""The back-off between attempts. Pure: the caller passes the source of randomness."""

from __future__ import annotations

from collections.abc import Callable

_FIRST_SHARE = 1 / 16
"""The first pause, as a share of the longest: a short failure ends before ``retry``, an outage costs few calls."""


class Backoff:
    """Pauses that double up to ``longest`` seconds, each shortened by up to a half at random.

    The random part keeps leases that lost the same etcd at the same moment from all retrying at the same moment.
    """

    __slots__ = ("_longest", "_next", "_uniform")

    def __init__(self, longest: float, uniform: Callable[[float, float], float]) -> None:
        self._longest = longest
        self._uniform = uniform
        self._next = longest * _FIRST_SHARE

    def next(self) -> float:
        """Return the next pause in seconds. The one after it is twice as long, up to the longest."""
        pause = self._next
        self._next = min(self._next * 2, self._longest)
        return self._uniform(pause / 2, pause)

    def reset(self) -> None:
        """Start from the shortest pause again, after a success."""
        self._next = self._longest * _FIRST_SHARE
