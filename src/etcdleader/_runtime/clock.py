"""The clock that counts suspend, and clocks as keys."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A clock that leases go by, as a key for what is kept of it.

    Two of these are equal if the same function reads them. A user's own clock need not be hashable, and one that
    equals another is not that other.

    Attributes:
        now: Returns seconds on a clock that never steps.
    """

    __slots__ = ("now",)

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clock) and self.now is other.now

    def __hash__(self) -> int:
        return id(self.now)  # it is held here, so no other function has this id meanwhile


if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Return seconds on a clock that never steps and goes on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boottime() -> float:
        """Return seconds on the best clock of this platform.

        ``time.monotonic`` may stand still while the machine sleeps. A process that was suspended may then consider its
        lease valid for too long; see the operating notes.
        """
        return time.monotonic()
