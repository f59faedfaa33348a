"""The process's end of a simulated connection: the library's own transports, with the network below them."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc

from etcdleader._grpc.transport import Transport
from etcdleader._grpc.transport_anyio import AnyioTransport
from etcdleader._grpc.transport_asyncio import AsyncioTransport
from etcdleader._runtime.events import running_trio
from tests.simulator.network import TcpConnection

__all__ = ("open_transport",)

Take = Callable[[], bytes]
Received = Callable[[bytes], bool]


def open_transport(connection: TcpConnection, take: Take, received: Received) -> Transport:
    """Return the transport of the running loop over an open connection. Call it in a task of the process."""
    if running_trio() is None:
        return _Protocol(connection, take, received)
    return _Streams(connection, take, received)


class _Protocol(AsyncioTransport):
    def __init__(self, connection: TcpConnection, take: Take, received: Received) -> None:
        super().__init__(take, received)
        self.connection_made(_LoopTransport(connection, self))

    def _set_fileno(self, descriptor: int) -> None:
        """There is no socket."""


class _LoopTransport(asyncio.Transport):
    """The transport of asyncio, which is between a socket and a protocol."""

    def __init__(self, connection: TcpConnection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._connection = connection
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._waiting: deque[bytes] = deque()
        self._paused = self._closing = False
        connection.client = self

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _NoSocket

    def write(self, data: Any) -> None:
        if not self._closing:
            self._connection.send_up(bytes(data))

    def receive(self, data: bytes) -> None:
        self._waiting.append(data)
        self._loop.call_soon(self._read, context=self._context)

    def lose(self, reason: str) -> None:
        self._end(ConnectionResetError(reason))

    def _read(self) -> None:
        while self._waiting and not (self._paused or self._closing):
            self._protocol.data_received(self._waiting.popleft())

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._read, context=self._context)

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._connection.close()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            # What has arrived is read first, as it is from a socket.
            self._loop.call_soon(self._lost, error, context=self._context)

    def _lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(error)


class _NoSocket:
    @staticmethod
    def fileno() -> int:
        return -1


class _Streams(AnyioTransport):
    def __init__(self, connection: TcpConnection, take: Take, received: Received) -> None:
        super().__init__(take, received)
        self._stream = _Stream(connection)


class _Stream(anyio.abc.ByteStream):
    def __init__(self, connection: TcpConnection) -> None:
        self._connection = connection
        self._sender, self._receiver = anyio.create_memory_object_stream[bytes](math.inf)
        connection.client = _StreamEnd(self._sender)

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self._connection.send_up(bytes(item))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = bytearray(await self._receiver.receive())
        while len(data) < max_bytes:
            try:
                data += self._receiver.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return bytes(data)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self._connection.close()
        self._sender.close()
        self._receiver.close()
        await anyio.lowlevel.checkpoint()


class _StreamEnd:
    def __init__(self, sender: Any) -> None:
        self._sender = sender

    def receive(self, data: bytes) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._sender.send_nowait(data)

    def lose(self, reason: str) -> None:
        self._sender.close()
