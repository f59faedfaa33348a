"""The real stream, with its thread and a scripted call: the effect of a message that cannot be processed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etcdleader import EtcdLeaderError, EtcdUnavailableError
from etcdleader._etcd import grpcio_endpoint
from etcdleader._etcd.grpcio_endpoint import GrpcioStream
from etcdleader._etcd.rpcs import Rpc
from etcdleader._etcd.stream import StreamCallbacks
from etcdleader._runtime.tasks import loop_scheduler
from tests.helpers.scripted_stream import ScriptedCall

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_message_that_cannot_be_processed_ends_its_stream_and_not_the_program() -> None:
    """trio ends a program if a callback of its loop raises."""
    calls: list[ScriptedCall] = []

    def method(requests: Iterator[Any], metadata: object) -> ScriptedCall:
        calls.append(ScriptedCall(requests, metadata))
        for message in ("good", "bad", "late"):  # all there before the loop checks
            calls[0].messages.put(message)
        return calls[0]

    class BadMessage(Exception):
        pass

    got: list[Any] = []

    def on_message(message: Any) -> None:
        if message == "bad":
            raise BadMessage
        got.append(message)

    ends: list[EtcdLeaderError] = []
    ended = anyio.Event()

    def on_end(error: EtcdLeaderError) -> None:
        ends.append(error)
        ended.set()

    stream = GrpcioStream(
        Rpc("scripted", "/scripted", bytes, bytes),
        (),
        StreamCallbacks(lambda message: None, on_message, on_end, loop_scheduler()),
        SimpleNamespace(name="127.0.0.1:1", on_data=lambda: None),  # type: ignore[arg-type]
        SimpleNamespace(stream_stream=lambda path, **_: method),
    )
    with anyio.fail_after(30):
        await ended.wait()
        calls[0].messages.put(None)
        await stream.closed.wait()
    assert got == ["good"]
    (error,) = ends
    assert "could not be processed: BadMessage()" in str(error)
    assert isinstance(error.__cause__, BadMessage)


def block_while(condition: Callable[[], bool]) -> None:
    """Block the event loop."""
    while condition():
        time.sleep(0.001)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("ends", [False, True], ids=["in the end all are delivered", "and a stream can be ended"])
async def test_unprocessed_messages_are_bounded(monkeypatch: pytest.MonkeyPatch, *, ends: bool) -> None:
    monkeypatch.setattr(grpcio_endpoint, "_MAX_WAITING_MESSAGES", 10)
    calls: list[ScriptedCall] = []

    def method(requests: Iterator[Any], metadata: object) -> ScriptedCall:
        calls.append(ScriptedCall(requests, metadata))
        for number in range(200):
            calls[0].messages.put(f"{number}")
        return calls[0]

    got: list[Any] = []
    stream = GrpcioStream(
        Rpc("scripted", "/scripted", bytes, bytes),
        (),
        StreamCallbacks(lambda message: None, got.append, lambda error: None, loop_scheduler()),
        SimpleNamespace(name="127.0.0.1:1", on_data=lambda: None),  # type: ignore[arg-type]
        SimpleNamespace(stream_stream=lambda path, **_: method),
    )
    block_while(lambda: calls[0].messages.qsize() > 189)
    block_while(lambda: len(stream._inbox) < 10)
    assert len(stream._inbox) == 10
    with anyio.fail_after(30):
        if ends:
            stream.end(EtcdUnavailableError("given up"))
        else:
            while len(got) < 200:
                await anyio.sleep(0.001)
        calls[0].messages.put(None)
        await stream.closed.wait()
    assert len(got) == (0 if ends else 200)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_flood_of_messages_does_not_block_the_loop_and_all_arrive_before_the_end() -> None:
    """The thread that reads them adds more while the loop takes them."""
    calls: list[ScriptedCall] = []

    def method(requests: Iterator[Any], metadata: object) -> ScriptedCall:
        calls.append(ScriptedCall(requests, metadata))
        for number in range(5_000):
            calls[0].messages.put(f"{number}")
        calls[0].messages.put(None)
        return calls[0]

    got: list[Any] = []
    ended = anyio.Event()

    def on_message(message: Any) -> None:
        time.sleep(0.00002)  # the other thread runs
        got.append(message)

    stream = GrpcioStream(
        Rpc("scripted", "/scripted", bytes, bytes),
        (),
        StreamCallbacks(lambda message: None, on_message, lambda error: ended.set(), loop_scheduler()),
        SimpleNamespace(name="127.0.0.1:1", on_data=lambda: None),  # type: ignore[arg-type]
        SimpleNamespace(stream_stream=lambda path, **_: method),
    )
    most = before = 0
    with anyio.fail_after(60):
        while not ended.is_set():
            await anyio.lowlevel.checkpoint()
            most, before = max(most, len(got) - before), len(got)
        await stream.closed.wait()
    assert len(got) == 5_000
    assert 0 < most <= 2 * grpcio_endpoint._MESSAGES_PER_ITERATION
