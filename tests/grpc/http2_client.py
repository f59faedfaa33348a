"""A client connection to a server that the test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import h2.settings

from etcdleader._grpc import Connection, Status, Stream
from tests.grpc.http2_server import Server, serving

__all__ = ("PATH", "PATIENCE", "Client", "client", "make_connection")

PATH = "/some.Service/Method"
PATIENCE = 60
Serving = Callable[[], AbstractAsyncContextManager[tuple[str, list[Server]]]]


@dataclass
class Client:
    """A connection with one stream on it, and the received events.

    Attributes:
        server: The other side.
        receipts: An entry for each time that data was received.
        streams: The opened streams, in order.
        number: The id of the last one of them.
    """

    connection: Connection
    server: Server
    receipts: list[None]
    streams: list[Stream] = field(default_factory=list)
    number: int = 0
    messages: list[bytes] = field(default_factory=list)
    ends: list[Status] = field(default_factory=list)
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def stream(self) -> Stream:
        """Return the stream that was opened last."""
        return self.streams[-1]

    def open(self, *metadata: tuple[str, str]) -> Stream:
        self.number = self.connection._codec._next_stream_id
        self.streams.append(
            self.connection.stream_stream(PATH, metadata=metadata, on_message=self.on_message, on_close=self.on_close)
        )
        return self.stream

    async def allow(self, streams: int) -> None:
        """Let the server allow this many streams at a time, and wait until the connection has received that."""
        self.server.connection.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams})
        await self.server.flush()
        while self.connection._codec.max_concurrent_streams != streams:
            await anyio.sleep(0.001)

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)
        self.notify()

    def on_close(self, status: Status) -> None:
        self.ends.append(status)
        self.notify()

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def end(self) -> Status:
        while not self.ends:
            await self.changed.wait()
        assert len(self.ends) == 1
        return self.ends[0]

    async def received(self, count: int) -> list[bytes]:
        while len(self.messages) < count:
            await self.changed.wait()
        return self.messages


def make_connection(
    address: str, ping_interval: float = 10, on_received: Callable[[], None] = lambda: None, **more: Any
) -> Connection:
    return Connection(
        address, user_agent="tests", ping_interval=ping_interval, reserved_streams=2, on_received=on_received, **more
    )


@asynccontextmanager
async def client(
    *, stream: bool = True, ping_interval: float = 10, serve: Serving = serving, **more: Any
) -> AsyncIterator[Client]:
    with anyio.fail_after(PATIENCE):
        async with serve() as (address, servers):
            receipts: list[None] = []
            connection = make_connection(address, ping_interval, lambda: receipts.append(None), **more)
            await connection.connect(None)
            while not servers:
                await anyio.sleep(0.001)
            one = Client(connection, servers[0], receipts)
            if stream:
                one.open()
                await one.server.wait_for_data(one.number)
            try:
                yield one
            finally:
                connection.close()
                await connection.ended.wait()
