"""A sink that records messages, and that a test can wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from etcdleader._etcd.api import (
    EtcdApi,
    WatchCanceled,
    WatchCreated,
    WatchEvent,
    WatchEvents,
    WatchHandle,
    WatchMessage,
)

TIMEOUT = 20.0
"""Seconds for an operation that should take none. They are generous, because the machine may be busy."""


class Recorder:
    """Watches from its construction on."""

    def __init__(self, api: EtcdApi, key: bytes, range_end: bytes = b"", *, start_revision: int = 0) -> None:
        self.messages: list[WatchMessage] = []
        self._changed = anyio.Event()
        self.handle: WatchHandle = api.watch(
            key, range_end, start_revision=start_revision, sink=self._take, timeout=TIMEOUT
        )

    def _take(self, message: WatchMessage) -> None:
        self.messages.append(message)
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(TIMEOUT):
            while not holds():
                await self._changed.wait()

    async def created(self) -> int:
        """Wait until the watch exists. Return the revision at which it was created."""
        await self.until(lambda: bool(self.messages))
        first = self.messages[0]
        assert isinstance(first, WatchCreated), first
        assert not first.resumed
        return first.revision

    async def events(self, count: int) -> Sequence[WatchEvent]:
        """Wait until this many events have arrived. Return all of them."""
        await self.until(lambda: len(self._events()) >= count)
        return self._events()

    async def canceled(self) -> WatchCanceled:
        """Wait until etcd has ended the watch."""
        await self.until(lambda: isinstance(self.messages[-1], WatchCanceled) if self.messages else False)
        last = self.messages[-1]
        assert isinstance(last, WatchCanceled)
        return last

    def batches(self) -> list[tuple[WatchEvent, ...]]:
        """Return the events in the batches in which they arrived."""
        return [message.events for message in self.messages if isinstance(message, WatchEvents)]

    def _events(self) -> list[WatchEvent]:
        return [event for batch in self.batches() for event in batch]
