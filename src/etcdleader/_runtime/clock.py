"""The clock that counts suspend, and a hashable wrapper for clocks."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A hashable wrapper of the function that reads a lease's clock.

    Two wrappers are equal if they have the same function object. A user's function need not be hashable, and may
    compare equal to another function that reads another clock.

    Attributes:
        now: Returns seconds on a clock that never steps.
    """

    __slots__ = ("now",)

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clock) and self.now is other.now

    def __hash__(self) -> int:
        return id(self.now)  # no other function can have this id while this object refers to the function


if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Return seconds on a clock that never steps and that counts suspend."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boottime() -> float:
        """Return seconds on the best clock of this platform.

        ``time.monotonic`` may stop while the machine is suspended. Then a process may consider its lease valid for too
        long after a suspend; see the operating notes.
        """
        return time.monotonic()
