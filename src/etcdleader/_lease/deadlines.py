"""When to look after each of many things. Pure: told the time, never asking for it."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

__all__ = ("Agenda",)

T = TypeVar("T")


class Agenda(Generic[T]):
    """Each thing, hashable, stands there once, with its time. Each step costs the logarithm of their number."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._entries: dict[T, int] = {}
        """Which of its entries counts: those before it stay in the heap until their time comes."""
        self._numbers = count()

    def put(self, thing: T, when: float) -> None:
        """Look after ``thing`` at that time, whatever was said before."""
        self._entries[thing] = number = next(self._numbers)
        heapq.heappush(self._heap, (when, number, thing))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._entries):
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)

    def drop(self, thing: T) -> None:
        """Forget it."""
        self._entries.pop(thing, None)

    def pop(self, until: float) -> T | None:
        """Take the first whose time is no later than ``until``; None when there is none."""
        if (first := self.next()) is None or first > until:
            return None
        _, _, thing = heapq.heappop(self._heap)
        del self._entries[thing]
        return thing

    def next(self) -> float | None:
        """The earliest time; None when nothing stands there."""
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _counts(self, entry: tuple[float, int, T]) -> bool:
        _, number, thing = entry
        return self._entries.get(thing) == number
