"""The smallest of many numbers of which few differ."""

from __future__ import annotations

from collections import Counter


class MinCounter:
    """A multiset of numbers.

    Its minimum costs one step for each *distinct* number: ten thousand leases or watches have the durations of a few
    configurations, and none of them looks through all others.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, number: float) -> None:
        """Add ``number`` once."""
        self._counts[number] += 1

    def remove(self, number: float) -> None:
        """Remove ``number``, which was added, once."""
        if self._counts[number] > 1:
            self._counts[number] -= 1
        else:
            del self._counts[number]

    def min(self, default: float) -> float:
        """Return the smallest number, or ``default`` if there is none."""
        return min(self._counts, default=default)
