"""A notification that wakes the tasks that wait for a change of state."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Notification:
    """An event that can be sent repeatedly. Each time it wakes all waiting tasks."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def send(self) -> None:
        """Wake all waiting tasks."""
        self._event.set()
        self._event = anyio.Event()

    def next(self) -> anyio.Event:
        """Return the event that the next ``send`` sets. Take it before checking a state, to miss no change."""
        return self._event

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds. It is checked at once, and after each ``send``."""
        while not holds():
            await self._event.wait()
