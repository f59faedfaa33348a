"""A transport without a peer: a test passes received data to the connection itself."""

from __future__ import annotations

import socket
import ssl
from unittest import mock

import anyio.lowlevel

from etcdleader._grpc import Connection
from etcdleader._grpc import connection as module
from etcdleader._grpc.transport import Transport

__all__ = ("connect_without_peer", "frame")


class NullTransport(Transport):
    """A transport that discards its data."""

    tasks = ()

    async def open(self, connected: socket.socket, name: str, context: ssl.SSLContext | None) -> None:
        """Do nothing: there is no socket to open."""

    def schedule_flush(self) -> None:
        self._data_to_send()

    async def _close(self) -> None:
        await anyio.lowlevel.checkpoint()


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


async def connect_without_peer(connection: Connection) -> None:
    with mock.patch.object(
        module,
        "connect",
        mock.AsyncMock(return_value=NullTransport(connection._data_to_send, connection._data_received)),
    ):
        await connection.connect(None)
