"""The part that the small gRPC clients share: an `asyncio.Protocol` around a codec without I/O.

The clients are tuned as ours is. There is no task per message, and all requests of one iteration of the loop are one
write. A lone request is written at once. Acknowledgements go along with the next request. Each call has a timeout.

They lack what a client for production needs: flow control of what is sent, pings, draining, a limit of streams, errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

LATER = 0.01
PREFIX = 5
TIMEOUT = 60.0
USER_AGENT = b"etcdleader"
WINDOW = 2**24

OnMessage = Callable[[bytes], None]
Received = tuple[int, list[bytes], bool]
"""The id of a stream, the messages that are complete, and whether the stream has ended with the status OK."""


class Codec(Protocol):
    """HTTP/2 and gRPC without I/O, from the client's side."""

    def open(self, path: bytes, message: bytes, *, last: bool) -> int:
        """Open a stream with one message and return its id."""

    def take(self) -> bytes:
        """Return the bytes to send now."""

    def receive(self, data: bytes) -> Iterable[Received]:
        """Return what these bytes contain."""


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(PREFIX - 1, "big") + message


def whole(buffer: bytearray) -> list[bytes]:
    """Remove the complete messages from a buffer and return them."""
    messages, at = [], 0
    while len(buffer) - at >= PREFIX:
        end = at + PREFIX + int.from_bytes(buffer[at + 1 : at + PREFIX], "big")
        if len(buffer) < end:
            break
        messages.append(bytes(buffer[at + PREFIX : end]))
        at = end
    del buffer[:at]
    return messages


def headers(path: bytes, authority: bytes, timeout: float | None) -> list[tuple[bytes, bytes]]:
    """Return the headers that etcdleader sends."""
    found = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", USER_AGENT),
    ]
    if timeout is not None:
        found.append(timeout_header(timeout))
    return found


def timeout_header(timeout: float) -> tuple[bytes, bytes]:
    return b"grpc-timeout", b"%du" % (timeout * 1e6)


class SmallClient(asyncio.Protocol):
    """Calls and streams over any codec."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._messages: dict[int, bytes] = {}
        self._streams: dict[int, OnMessage] = {}
        self._acknowledgements = b""
        self._woken = self._woken_later = False

    async def connect(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        await self._loop.create_connection(lambda: self, host, int(port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._flush()

    async def call(self, path: str, request: bytes) -> bytes:
        answer: asyncio.Future[bytes] = self._loop.create_future()
        number = self.codec.open(path.encode(), request, last=True)
        self._calls[number] = answer
        if len(self._calls) == 1:
            self._flush()
        elif not self._woken:
            self._woken = True
            self._loop.call_soon(self._flush)
        timer = self._loop.call_later(TIMEOUT, answer.cancel)
        try:
            return await answer
        finally:
            timer.cancel()
            self._calls.pop(number, None)

    def stream(self, path: str, request: bytes, on_message: OnMessage) -> None:
        self._streams[self.codec.open(path.encode(), request, last=False)] = on_message
        self._flush()

    def data_received(self, data: bytes) -> None:
        for number, messages, ended in self.codec.receive(data):
            if (on_message := self._streams.get(number)) is not None:
                for message in messages:
                    on_message(message)
                continue
            for message in messages:
                self._messages[number] = message
            if ended:
                message = self._messages.pop(number)
                if (answer := self._calls.get(number)) is not None and not answer.done():
                    answer.set_result(message)
        if acknowledgements := self.codec.take():
            # The next request is likely to take them along.
            self._acknowledgements += acknowledgements
            if not (self._woken or self._woken_later):
                self._woken_later = True
                self._loop.call_later(LATER, self._flush)

    def _flush(self) -> None:
        self._woken = self._woken_later = False
        data, self._acknowledgements = self._acknowledgements + self.codec.take(), b""
        if data:
            self._transport.write(data)
