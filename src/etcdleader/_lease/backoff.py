"""How long to wait before trying again. Pure: randomness is handed in."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ("Backoff",)

_FIRST = 1 / 16
"""The first pause, as a share of the longest: a blip is over sooner than ``retry``, an outage costs few calls."""


class Backoff:
    """Pauses that double up to ``longest`` seconds, each shortened by up to a half at random.

    The random half keeps leases that lost the same etcd at the same moment from coming back in one step.
    """

    __slots__ = ("_longest", "_next", "_uniform")

    def __init__(self, longest: float, uniform: Callable[[float, float], float]) -> None:
        self._longest = longest
        self._uniform = uniform
        self._next = longest * _FIRST

    def next(self) -> float:
        """Seconds to wait this time."""
        pause = self._next
        self._next = min(self._next * 2, self._longest)
        return self._uniform(pause / 2, pause)

    def reset(self) -> None:
        """It worked: start from the shortest pause again."""
        self._next = self._longest * _FIRST
