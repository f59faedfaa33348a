"""A gRPC server that the test controls, on a loopback socket. It uses the same HTTP/2 library as a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import h2.config
import h2.connection
import h2.events
from anyio.abc import ByteStream, SocketAttribute, SocketStream

__all__ = ("OK", "Server", "framed", "serving")

HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK = (("grpc-status", "0"),)


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


class Server:
    """The received data of one connection to the server, and its responses.

    Attributes:
        connection: The server's side of the connection.
        headers: The headers of each stream.
        data: The data received on each stream.
        reset: The streams that the client reset.
        ended: The streams whose client has ended its half.
        acknowledges: Whether received data is acknowledged, so that more may follow.
    """

    def __init__(self, socket: ByteStream) -> None:
        self._socket = socket
        self._changed = anyio.Event()
        self._writing = anyio.Lock()
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytearray] = {}
        self.reset: list[int] = []
        self._begun: set[int] = set()
        self.ended: list[int] = []
        self.pings = self.acknowledged = 0
        self.silent = False
        self.acknowledges = True

    async def run(self) -> None:
        self.connection.initiate_connection()
        await self.flush()
        while True:
            data = await self._socket.receive()
            if self.silent:
                continue
            for event in self.connection.receive_data(data):
                self._on_event(event)
            await self.flush()
            self._changed.set()
            self._changed = anyio.Event()

    def _on_event(self, event: object) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            self.data[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] += event.data
            if self.acknowledges:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.append(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.reset.append(event.stream_id)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.PingAckReceived):
            self.acknowledged += 1

    async def flush(self) -> None:
        async with self._writing:
            if data := self.connection.data_to_send():
                await self._socket.send(data)

    async def send(self, number: int, data: bytes) -> None:
        """Send as much as the client's windows allow, in frames of its maximum size."""
        self.begin(number)
        at = 0
        while at < len(data):
            size = min(self.connection.local_flow_control_window(number), self.connection.max_outbound_frame_size)
            if size <= 0:
                await self._changed.wait()
                continue
            self.connection.send_data(number, data[at : at + size])
            at += size
            await self.flush()

    def begin(self, number: int) -> None:
        """Send the headers of a response, once."""
        if number not in self._begun:
            self._begun.add(number)
            self.connection.send_headers(number, HEADERS)

    async def end(self, number: int, *trailers: tuple[str, str]) -> None:
        self.begin(number)
        self.connection.send_headers(number, list(trailers), end_stream=True)
        await self.flush()

    async def answer(self, number: int, message: bytes = b"answer") -> None:
        """Send the whole response to a call."""
        await self.send(number, framed(message))
        await self.end(number, *OK)

    async def wait_for_data(self, number: int, size: int = 0) -> None:
        """Wait until a stream has this much data."""
        while number not in self.data or len(self.data[number]) < size:
            await self._changed.wait()

    async def send_goaway(self, last: int, code: int = 0, why: bytes = b"") -> None:
        """Send GOAWAY by hand: h2 would allow no end of a stream after it."""
        async with self._writing:
            payload = last.to_bytes(4, "big") + code.to_bytes(4, "big") + why
            await self._socket.send(len(payload).to_bytes(3, "big") + b"\x07\0" + bytes(4) + payload)

    async def close(self) -> None:
        await self._socket.aclose()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, list[Server]]]:
    """Yield its address, and the connections in the order of their arrival."""
    servers: list[Server] = []

    async def serve(socket: SocketStream) -> None:
        async with socket:
            servers.append(Server(socket))
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await servers[-1].run()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        port = listener.extra(SocketAttribute.local_port)
        group.start_soon(listener.serve, serve)
        yield f"127.0.0.1:{port}", servers
        group.cancel_scope.cancel()
