"""The time for which this process stood still: a busy machine delays what a test of a moment measures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from etcdleader._runtime.clock import boottime

__all__ = ("StandStills", "stand_stills")

INTERVAL_SECONDS = 0.02


class StandStills:
    """The times for which the event loop did not run.

    Attributes:
        found: When each of them ended, on the library's clock, and its seconds.
    """

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []
        self._last = boottime()

    def after(self, moment: float) -> float:
        """Return the seconds of those that ended after a moment. One that has just ended counts."""
        self._look()
        return sum(seconds for end, seconds in self.found if end > moment)

    def _look(self) -> None:
        now = boottime()
        if (late := now - self._last - INTERVAL_SECONDS) > INTERVAL_SECONDS:
            self.found.append((now, late))
        self._last = now

    async def watch(self) -> None:
        """Look at the clock again and again."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            self._look()


@asynccontextmanager
async def stand_stills() -> AsyncIterator[StandStills]:
    """Record them while the block runs."""
    found = StandStills()
    async with anyio.create_task_group() as group:
        group.start_soon(found.watch)
        yield found
        group.cancel_scope.cancel()
