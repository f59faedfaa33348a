"""The worker of the row "rpc": one of the gRPC clients. It sends given bytes and parses no response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

import anyio
import anyio.abc
import hpack

from benchmarks.peers.async_protocol import serve
from benchmarks.peers.protocol import Answer, now, options
from benchmarks.peers.rpc_client import Codec, OnMessage, SmallClient, framed

RANGE, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
LAST = b"last"
"""Part of the key of the last event, and of no other key."""


class Client(Protocol):
    async def connect(self, address: str) -> None: ...

    async def call(self, path: str, request: bytes) -> bytes: ...

    def stream(self, path: str, request: bytes, on_message: OnMessage) -> None: ...


def make_codec(name: str, address: str) -> Codec:
    """Load and use only the library that is measured."""
    if name == "ours":
        from benchmarks.peers.rpc_ours import OurCodec

        return OurCodec(address)
    if name == "hyperframe":
        from benchmarks.peers.rpc_hyperframe import HyperframeCodec

        return HyperframeCodec(address)
    from benchmarks.peers.rpc_h2 import H2Codec

    return H2Codec(address)


def make_client(name: str, address: str) -> Client:
    if name == "ours":
        from benchmarks.peers.rpc_ours import OurClient

        return OurClient()
    if name == "aio":
        from benchmarks.peers.rpc_aio import AioClient

        return AioClient()
    return SmallClient(make_codec(name, address))


async def together(function: Callable[[], Awaitable[None]], times: int) -> None:
    """Call a function several times concurrently, by the means of the loop itself."""
    if options().backend == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(function)
    else:
        await asyncio.gather(*[function() for _ in range(times)])


class Responses:
    """The bytes of the server's responses to calls: headers, the message, trailers."""

    def __init__(self, message: bytes) -> None:
        self._message = framed(message)
        self._encoder = hpack.Encoder()

    @staticmethod
    def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload

    def to(self, number: int) -> bytes:
        headers = self._encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
        trailers = self._encoder.encode([("grpc-status", "0"), ("grpc-message", "")])
        return (
            self._frame(1, 4, number, headers)
            + self._frame(0, 0, number, self._message)
            + self._frame(1, 5, number, trailers)
        )


class Rpc:
    """One client with its connection."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        del group  # nothing runs beside the commands
        self.name, self.address = options().client, options().endpoints[0]
        self.request = b""
        self.answer = b""
        self.came: list[tuple[int, bytes]] = []
        self.used = 0
        self.last = anyio.Event()

    async def do_connect(self, request: str) -> None:
        self.request = bytes.fromhex(request)
        self.client = make_client(self.name, self.address)
        await self.client.connect(self.address)
        self.answer = await self.client.call(RANGE, self.request)

    # Calls

    async def do_calls(self, times: int) -> Answer:
        """Make calls one after the other."""
        took = []
        used = time.process_time_ns()
        for _ in range(times):
            began = now()
            await self.client.call(RANGE, self.request)
            took.append(now() - began)
        return {"took": took, "used": (time.process_time_ns() - used) / times}

    async def do_bursts(self, times: int, size: int) -> Answer:
        """Make ``size`` calls at a time."""
        took = []

        async def one() -> None:
            began = now()
            await self.client.call(RANGE, self.request)
            took.append(now() - began)

        used = time.process_time_ns()
        for _ in range(times):
            await together(one, size)
        return {"took": took, "used": (time.process_time_ns() - used) / times / size}

    # Events

    async def do_watch(self, request: str) -> None:
        created = anyio.Event()

        def on_message(message: bytes) -> None:
            self.came.append((now(), message))
            if LAST in message:
                self.used = time.process_time_ns() - self.used
                self.last.set()
            created.set()

        self.client.stream(WATCH, bytes.fromhex(request), on_message)
        await created.wait()

    async def do_begin_events(self) -> None:
        self.came.clear()
        self.last = anyio.Event()
        self.used = time.process_time_ns()

    async def do_end_events(self) -> Answer:
        """Return each message with its time of arrival. The parent parses the messages."""
        with anyio.fail_after(60):
            await self.last.wait()
        return {"came": [(moment, message.hex()) for moment, message in self.came], "used": self.used}

    # The codec alone

    async def do_codec(self, times: int) -> Answer:
        """Make calls in memory: the client's side, without a loop and without a socket."""
        codec, responses = make_codec(self.name, self.address), Responses(self.answer)
        list(codec.receive(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))))  # the server's settings
        path, numbers = RANGE.encode(), count(1, 2)

        def calls(ready: list[bytes]) -> None:
            for data in ready:
                codec.open(path, self.request, last=True)
                codec.take()
                received = list(codec.receive(data))
                assert received[-1][2]
                assert [message for _, messages, _ in received for message in messages] == [self.answer]

        calls([responses.to(next(numbers)) for _ in range(100)])
        ready = [responses.to(next(numbers)) for _ in range(times)]
        used = time.process_time_ns()
        calls(ready)
        return {"used": (time.process_time_ns() - used) / times}


if __name__ == "__main__":
    anyio.run(serve, Rpc, backend=options().backend)
