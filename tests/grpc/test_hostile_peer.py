"""A peer that floods its client: each flood ends a call, a stream or the connection, at a bounded cost.

The cost is memory, and the work in one iteration of the event loop, in function calls. It is not measured in seconds,
which depend on the machine. ``make fuzz`` sends more.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from etcdleader._grpc import Connection, RpcError, Status, limits
from tests.grpc.hostile_peer import FLOODS
from tests.grpc.http2_client import make_connection

pytestmark = pytest.mark.anyio

PATIENCE = 600
"""Seconds. Each function call is counted, which takes long on a busy machine."""
MOST_MEMORY = 50 * 2**20
MOST_WORK = 150_000
"""Function calls. They take less than 0.2 s if a call takes a microsecond, which is slow."""
_STATM = Path("/proc/self/statm")


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.grpc.hostile_peer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def memory() -> int:
    """Return the resident memory of this process in bytes, if the system reports it."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if _STATM.exists() else 0


class Cost:
    """The cost of a connection.

    Attributes:
        memory: The maximum number of bytes beyond those at the beginning.
        work: The maximum number of function calls in one iteration of the event loop.
    """

    def __init__(self) -> None:
        self.memory = self.work = 0
        self._before = memory()
        self._now = 0

    def count(self, frame: object, event: str, argument: object) -> None:
        """Count a function call. Python calls this for each of them."""
        if event in {"call", "c_call"}:
            self._now += 1

    async def watch(self) -> None:
        while True:
            self.take_in()
            await anyio.lowlevel.checkpoint()

    def take_in(self) -> None:
        """Record the end of an iteration of the loop."""
        self.memory = max(self.memory, memory() - self._before)
        self.work, self._now = max(self.work, self._now), 0


@asynccontextmanager
async def watched(address: str) -> AsyncIterator[tuple[Connection, Cost]]:
    with anyio.fail_after(PATIENCE):
        connection = make_connection(address)
        cost = Cost()
        await connection.connect(None)
        sys.setprofile(cost.count)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(cost.watch)
                yield connection, cost
                group.cancel_scope.cancel()
        finally:
            sys.setprofile(None)
        cost.take_in()
        connection.close()
        await connection.wait_closed()


STREAMS = {
    "one_huge_message": "RESOURCE_EXHAUSTED: a message of 4294967295 bytes is longer than max_recv_bytes = 16777216",
    "parts_of_messages": "RESOURCE_EXHAUSTED: incomplete messages exceed 1.5 max_recv_bytes",
    "endless_headers": "INTERNAL: the peer sent more header blocks than a response has",
    "endless_informational_headers": "INTERNAL: the peer sent more header blocks than a response has",
    "endless_continuations": "UNAVAILABLE: headers of more than",
    "empty_continuations": "UNAVAILABLE: headers of more than",
    "many_headers_in_one_block": "UNAVAILABLE: headers that cannot be decoded",
    "pings": "UNAVAILABLE: ",
    "pings_that_are_paid_for": "UNAVAILABLE: the peer does not read the acknowledgements of its last 1000 pings and settings",
    "settings": "UNAVAILABLE: ",
    "one_frame_of_settings": "UNAVAILABLE: more than 32 settings in one frame",
    "empty_data": "UNAVAILABLE: more than 10000 frames without effect",
    "padding": "UNAVAILABLE: more than 10000 frames without effect",
    "data_of_a_closed_stream": "UNAVAILABLE: reset by the peer: code 8",
    "resets": "UNAVAILABLE: reset by the peer: code 8",
    "window_updates": "UNAVAILABLE: more than 10000 frames without effect",
    "goaways": "UNAVAILABLE: the peer is going away",
    "priorities": "UNAVAILABLE: more than 10000 frames without effect",
    "unknown_frames": "UNAVAILABLE: more than 10000 frames without effect",
    "several_messages": "UNAVAILABLE: ",  # each is allowed on a stream: the flood ends
    "tiny_messages": "UNAVAILABLE: ",
    "messages_packed_in_frames": "UNAVAILABLE: ",
}
"""The end of the first stream."""


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_on_streams_costs_little_memory_and_does_not_block_the_loop(peer: str, flood: str) -> None:
    streams = 3 if flood == "parts_of_messages" else 1
    async with watched(peer) as (connection, cost):
        ends: list[Status] = []
        for _ in range(streams):
            connection.stream_stream(f"/{flood}/{streams}", on_message=lambda _: None, on_close=ends.append)
        await connection.wait_closed() if flood not in {"one_huge_message", "parts_of_messages"} else None
        while not ends:
            await anyio.lowlevel.checkpoint()
    assert f"{ends[0].code}: {ends[0].message}".startswith(STREAMS[flood])
    assert cost.memory <= MOST_MEMORY
    assert 0 < cost.work <= MOST_WORK


@pytest.mark.parametrize("flood", ["one_huge_message", "parts_of_messages", "several_messages", "endless_headers"])
async def test_a_flood_on_calls_ends_them(peer: str, flood: str) -> None:
    calls = 3 if flood == "parts_of_messages" else 1
    async with watched(peer) as (connection, cost):
        failed: list[Status] = []

        async def call() -> None:
            with pytest.raises(RpcError) as error:
                await connection.unary_unary(f"/{flood}/{calls}", b"ask", timeout=PATIENCE)
            failed.append(error.value.status)

        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(call)
            while not failed:
                await anyio.lowlevel.checkpoint()
            connection.close()
    expected = "INTERNAL: several responses to one request" if flood == "several_messages" else STREAMS[flood]
    assert f"{failed[0].code}: {failed[0].message}".startswith(expected)
    assert cost.memory <= MOST_MEMORY
    assert 0 < cost.work <= MOST_WORK


async def test_a_peer_that_reads_nothing_fills_a_bounded_buffer_and_loses_the_stream() -> None:
    """Its windows have the maximum size."""
    wide = b"\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff" + b"\0\0\4\x08\0\0\0\0\0\x7f\xff\0\0"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with watched(f"127.0.0.1:{listener.getsockname()[1]}") as (connection, cost):
            with listener.accept()[0] as peer:
                peer.sendall(wide)
                ends: list[Status] = []
                stream = connection.stream_stream("/some.Service/Method", on_message=print, on_close=ends.append)
                codec = connection._codec
                while codec._outbound_window < 2**30:
                    await anyio.lowlevel.checkpoint()
                waiting = 0
                for _ in range(40):
                    stream.send(bytes(2**20))
                    for _ in range(20):
                        await anyio.lowlevel.checkpoint()
                        waiting = max(waiting, len(codec.output))
                    if ends:
                        break
                assert [end.message for end in ends] == [
                    f"the peer reads nothing: more than {limits.OUTPUT} bytes wait to be sent"
                ]
                assert waiting <= limits.OUTPUT_AT_A_TIME + 2**15
                assert connection.is_open, "only this stream has too much to send"
    assert cost.memory <= MOST_MEMORY
