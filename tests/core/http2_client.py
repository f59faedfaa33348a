"""A connection of ours to a server that does what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import h2.settings

from etcdleader._grpc.connection import Http2
from etcdleader._grpc.framing import Status
from tests.core.http2_server import Server, serving

__all__ = ("PATH", "PATIENCE", "Client", "client")

PATH = "/some.Service/Method"
PATIENCE = 60


@dataclass
class Client:
    """A connection with one stream on it, and what it has told.

    Attributes:
        server: What it leads to.
        heard: How often something was heard.
    """

    connection: Http2
    server: Server
    heard: list[None]
    number: int = 0
    messages: list[bytes] = field(default_factory=list)
    ends: list[Status] = field(default_factory=list)
    changed: anyio.Event = field(default_factory=anyio.Event)

    def open(self, *metadata: tuple[str, str]) -> None:
        number = self.connection.open(PATH, metadata, self.took, self.ended)
        assert number is not None
        self.number = number

    async def allow(self, streams: int) -> None:
        """The server allows so many streams at a time, and the connection knows."""
        self.server.connection.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams})
        await self.server.flush()
        while self.connection._frames.room != streams:
            await anyio.sleep(0.001)

    def took(self, message: bytes) -> None:
        self.messages.append(message)
        self.tell()

    def ended(self, status: Status) -> None:
        self.ends.append(status)
        self.tell()

    def tell(self) -> None:
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


@asynccontextmanager
async def client(*, stream: bool = True) -> AsyncIterator[Client]:
    with anyio.fail_after(PATIENCE):
        async with serving() as (address, servers):
            heard: list[None] = []
            connection = Http2(address, lambda: heard.append(None))
            await connection.connect(None)
            while not servers:
                await anyio.sleep(0.001)
            one = Client(connection, servers[0], heard)
            if stream:
                one.open()
                await one.server.until_there_is(one.number)
            try:
                yield one
            finally:
                connection.close()
                await connection.ended.wait()
