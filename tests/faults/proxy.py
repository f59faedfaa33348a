"""A TCP proxy between one candidate and the members, with faults on request. It runs as a separate process.

Arguments: a journal, and for each member ``listen_port:host:port``. It records when each lease's keep-alives pass.

It reads one JSON object a line on stdin. ``{"member": 1, "stall": true}`` sets the named fault of that member's link.
``{"ask": "used"}`` returns on stdout the number of the member that was used last.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tests.faults.frames import WatchFilter
from tests.faults.journal import Journal

_CONNECT = 3.0
_CHUNK = 65536
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Link:
    """The connections to one member, and their faults.

    Attributes:
        refuse: Connections are reset as soon as they are made.
        stall: Half open: bytes are accepted and discarded; the sockets stay open.
        drop_up: All data from the candidate is lost.
        drop_down: All data from the member is lost.
        drop_watch: Only the member's data on watch streams is lost.
        delay_up: Seconds by which each byte from the candidate is delayed.
        delay_down: Seconds by which each byte from the member is delayed.
        slow_close: Seconds for which a connection that the member closed seems to stay open.
    """

    host: str
    port: int
    journal: Journal
    refuse: bool = False
    stall: bool = False
    drop_up: bool = False
    drop_down: bool = False
    drop_watch: bool = False
    delay_up: float = 0.0
    delay_down: float = 0.0
    slow_close: float = 0.0
    spoken: float = 0.0
    connections: set[Connection] = field(default_factory=set)

    def set(self, changes: dict[str, Any]) -> None:
        """Change the named faults. Connections that have lost bytes cannot continue, and are reset."""
        if changes.pop("reset", False):
            self.reset()
        for name, value in changes.items():
            setattr(self, name, value)
        if self.refuse:
            self.reset()
        if not (self.stall or self.drop_up or self.drop_down):
            for connection in list(self.connections):
                if connection.lossy:
                    connection.abort()

    def reset(self) -> None:
        """Send RST to both ends of every connection."""
        for connection in list(self.connections):
            connection.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from the candidate."""
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            if not self.refuse:
                await connection.run()
        finally:
            connection.abort()
            self.connections.discard(connection)


class Connection:
    """Two sockets, and the data between them."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._link = link
        self._client = (reader, writer)
        self._writers = [writer]
        self._filter = WatchFilter()
        self._task = asyncio.current_task()
        self.lossy = False
        self._over = False

    async def run(self) -> None:
        """Forward data until either end closes."""
        while self._link.stall and not self._over:
            self.lossy = True
            if not await self._client[0].read(_CHUNK):
                return
        try:
            async with asyncio.timeout(_CONNECT):
                reader, writer = await asyncio.open_connection(self._link.host, self._link.port)
        except (OSError, TimeoutError):
            return
        self._writers.append(writer)
        down = asyncio.create_task(self._pump(reader, self._client[1], up=False))
        up = asyncio.create_task(self._pump(self._client[0], writer, up=True))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if down.done() and self._link.slow_close:
                await asyncio.sleep(self._link.slow_close)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(queue, writer))
        link = self._link
        try:
            while data := await reader.read(_CHUNK):
                if link.stall or (link.drop_up if up else link.drop_down):
                    self.lossy = True
                    continue
                if self.lossy and not up:
                    continue  # A stream cannot continue after a gap.
                link.spoken = time.monotonic()
                if up:
                    self._filter.up(data)
                    if self._filter.renewed:
                        link.journal.write("keep-alive", leases=self._filter.renewed)
                        self._filter.renewed = []
                else:
                    data = self._filter.down(data, drop=link.drop_watch)
                queue.put_nowait((time.monotonic() + (link.delay_up if up else link.delay_down), data))
        except OSError:
            pass
        finally:
            sender.cancel()

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()

    def abort(self) -> None:
        """Send RST to both ends."""
        if self._over:
            return
        self._over = True
        for writer in self._writers:
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


async def _main(arguments: list[str]) -> None:
    links: list[Link] = []
    servers = []
    journal = Journal(arguments[0])
    for argument in arguments[1:]:
        listen, host, port = argument.split(":")
        link = Link(host, int(port), journal)
        links.append(link)
        servers.append(await asyncio.start_server(link.serve, "127.0.0.1", int(listen)))
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("ready", flush=True)
    while line := await commands.readline():
        command = json.loads(line)
        if "ask" in command:
            used = max(range(len(links)), key=lambda number: links[number].spoken)
            print(json.dumps({"used": used}), flush=True)
        else:
            links[command.pop("member")].set(command)
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
