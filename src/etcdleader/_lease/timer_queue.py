"""A priority queue of deadlines. Pure: the caller passes the time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class TimerQueue(Generic[T]):
    """The deadlines of hashable items, at most one for each item. Each operation takes logarithmic time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._entries: dict[T, int] = {}
        """The number of each item's current entry. Outdated entries stay in the heap until they reach its top."""
        self._numbers = count()

    def set(self, thing: T, when: float) -> None:
        """Set the deadline of ``thing`` to ``when``, and replace its previous one."""
        self._entries[thing] = number = next(self._numbers)
        heapq.heappush(self._heap, (when, number, thing))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._entries):
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)

    def discard(self, thing: T) -> None:
        """Remove the deadline of ``thing``, if it has one."""
        self._entries.pop(thing, None)

    def pop(self, until: float) -> T | None:
        """Remove and return the item with the earliest deadline, if that is at most ``until``; otherwise return None."""
        if (first := self.next()) is None or first > until:
            return None
        _, _, thing = heapq.heappop(self._heap)
        del self._entries[thing]
        return thing

    def next(self) -> float | None:
        """Return the earliest deadline, or None if there is none."""
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _counts(self, entry: tuple[float, int, T]) -> bool:
        _, number, thing = entry
        return self._entries.get(thing) == number
