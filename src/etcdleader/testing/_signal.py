"""How those who wait for a state learn that it has changed."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Signal:
    """Wakes everybody who waits, each time it is sent."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def send(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = anyio.Event()

    def next(self) -> anyio.Event:
        """What the next ``send`` sets. Taken before a state is looked at, it misses nothing."""
        return self._event

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while not holds():
            await self._event.wait()
