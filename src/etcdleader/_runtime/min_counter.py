"""A multiset that returns its smallest number, for many numbers with few distinct values."""

from __future__ import annotations

from collections import Counter


class MinCounter:
    """A multiset of numbers.

    Its minimum costs one step for each *distinct* number. Ten thousand leases or watches have the durations of a few
    configurations, so the cost does not grow with their number.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, number: float) -> None:
        """Add one occurrence of ``number``."""
        self._counts[number] += 1

    def remove(self, number: float) -> None:
        """Remove one occurrence of ``number``, which must be present."""
        if self._counts[number] > 1:
            self._counts[number] -= 1
        else:
            del self._counts[number]

    def min(self, default: float) -> float:
        """Return the smallest number, or ``default`` if there is none."""
        return min(self._counts, default=default)
