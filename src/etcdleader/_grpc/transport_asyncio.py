"""The transport for asyncio and compatible loops: an ``asyncio.Protocol``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from .._runtime.events import Event
from .._runtime.tasks import system_task_context
from . import limits
from .transport import Transport
from .unix import is_unix

_FLUSH_LATER_SECONDS = 0.01
"""Before they pass, a request is likely to be sent, together with the bytes that no caller waits for."""
_CLOSE_TIMEOUT_SECONDS = 1.0


class AsyncioTransport(Transport, asyncio.Protocol):
    """A transport that the loop calls with received bytes."""

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], bool]) -> None:
        super().__init__(take, received)
        self.tasks = (self._wait_until_lost,)
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._woken = self._woken_later = False
        self._full = False
        """True while the loop's write buffer is above its high-water mark."""
        self._behind = False
        """True while received bytes must be processed before more are read."""
        self._lost = Event()
        self._why: Exception | None = None

    async def open(self, connected: socket.socket, name: str, context: ssl.SSLContext | None) -> None:
        """Take over a connected socket, with TLS if a context is given."""
        loop = self._loop
        left: socket.socket | None = connected
        options: dict[str, Any] = {"ssl": context, "server_hostname": name} if context is not None else {}

        async def attach() -> None:
            nonlocal left
            mine, left = left, None
            if is_unix(connected):
                await loop.create_unix_connection(lambda: self, sock=mine, **options)
            else:
                await loop.create_connection(lambda: self, sock=mine, **options)

        try:
            # In a separate context, because the loop will call the protocol's methods in it.
            await loop.create_task(attach(), context=system_task_context())
        except BaseException:
            # Cancelled or failed before the loop took the socket, or just after it created the transport.
            if left is not None:
                left.close()
            if self.transport is not None:
                self.transport.abort()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # other loops' are no subclasses, but have its methods
        self._set_fileno(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        if self._data_received(data) and not self._behind:
            self._behind = True
            assert self.transport is not None
            self.transport.pause_reading()
            self._loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        assert self.transport is not None
        if self._data_received(b""):
            self._loop.call_soon(self._catch_up)
            return
        self._behind = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.schedule_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._why = exc
        self._lost.set()

    def schedule_flush(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._send)

    def schedule_flush_later(self) -> None:
        if not (self._woken or self._woken_later):
            self._woken_later = True
            self._loop.call_later(_FLUSH_LATER_SECONDS, self._send)

    def _send(self) -> None:
        self._woken = self._woken_later = False
        self.flush()

    def flush(self) -> None:
        assert self.transport is not None
        while not self._full and (data := self._data_to_send()) and not self.transport.is_closing():
            self.transport.write(data)
            if len(data) < limits.OUTPUT_AT_A_TIME:
                break

    async def _wait_until_lost(self) -> None:
        await self._lost.wait()
        raise self._why if isinstance(self._why, OSError) else ConnectionResetError("the peer hung up")

    async def _close(self) -> None:
        assert self.transport is not None
        self.transport.abort()
        await self._lost.wait_for(_CLOSE_TIMEOUT_SECONDS)
