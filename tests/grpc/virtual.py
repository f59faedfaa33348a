"""A server at the other end of a pair of sockets, on loops whose time jumps to the next timer while no socket is ready.

For durations such as that between two pings. On a real loop, a machine that stops the process between a ping and its
acknowledgement changes the result. Bytes have arrived when a unix socket's ``send`` returns, so that a jump skips none of
them. With TCP they may arrive later.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest import mock

import anyio
import trio.testing
from anyio.abc import UNIXSocketStream

from etcdleader._grpc import connect as module
from tests.grpc.http2_server import Server

__all__ = ("serving_a_pair", "virtual_backend")


class _JumpingSelector(selectors.DefaultSelector):
    time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.time += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time


def virtual_backend(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return a backend and its options for the fixture ``anyio_backend``."""
    if name == "asyncio":
        return name, {"loop_factory": _VirtualLoop}
    return name, {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def serving_a_pair() -> AsyncIterator[tuple[str, list[Server]]]:
    """Yield the address of the only connection, and its server."""
    ours, its = socket.socketpair()
    server = Server(await UNIXSocketStream.from_socket(its))

    async def serve() -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await server.run()

    connected = mock.patch.object(module, "connect_unix", mock.AsyncMock(return_value=ours))
    async with server._socket, anyio.create_task_group() as group:
        group.start_soon(serve)
        with connected:
            yield "unix:/one of a pair", [server]
        group.cancel_scope.cancel()
