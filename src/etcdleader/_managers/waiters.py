"""Tasks that wait for the next change of a manager, on any event loop."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from .._runtime.tasks import call_soon_on


@dataclass(slots=True, eq=False, repr=False)
class Waiters:
    """Wakes all waiting tasks at each change."""

    _waiting: list[tuple[anyio.Event, anyio.lowlevel.EventLoopToken]] = field(init=False, default_factory=list)

    def changed(self) -> None:
        """Wake the waiting tasks."""
        for waiting, loop in self._waiting.copy():  # other threads may add and remove waiters meanwhile
            if loop == anyio.lowlevel.current_token():
                waiting.set()
            else:
                call_soon_on(loop, waiting.set)

    async def wait_changed(self) -> None:
        """Wait for the next change."""
        # One event per task: the next task may wait on another loop.
        waiting = anyio.Event(), anyio.lowlevel.current_token()
        self._waiting.append(waiting)
        try:
            await waiting[0].wait()
        finally:
            self._waiting.remove(waiting)
