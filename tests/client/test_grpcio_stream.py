"""The real stream, with its thread and a scripted call: what a message that cannot be taken does to those after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from etcdleader._etcd.grpcio_endpoint import ChannelStream
from etcdleader._etcd.rpcs import Rpc
from etcdleader._etcd.stream import StreamUse
from etcdleader._runtime.tasks import call_soon_from_threads
from tests.helpers.scripted_stream import ScriptedCall

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio itself ends a loop of which a callback fails
async def test_a_message_that_cannot_be_taken_holds_up_none_after_it() -> None:
    calls: list[ScriptedCall] = []

    def method(requests: Iterator[Any], metadata: object) -> ScriptedCall:
        calls.append(ScriptedCall(requests, metadata))
        for message in ("bad", "good", "bad", "better"):  # all there before the loop looks
            calls[0].messages.put(message)
        return calls[0]

    class BadMessage(Exception):
        pass

    got: list[Any] = []
    came = anyio.Event()

    def on_message(message: Any) -> None:
        if message == "bad":
            raise BadMessage
        got.append(message)
        if message == "better":
            came.set()

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
    stream = ChannelStream(
        Rpc("scripted", "/scripted", bytes, bytes),
        (),
        StreamUse(lambda message: None, on_message, lambda error: None, call_soon_from_threads()),
        SimpleNamespace(name="127.0.0.1:1", heard=lambda: None),  # type: ignore[arg-type]
        SimpleNamespace(stream_stream=lambda path, **_: method),
    )
    with anyio.fail_after(30):
        await came.wait()
    assert got == ["good", "better"]
    assert [type(error) for error in told] == [BadMessage, BadMessage]
    calls[0].messages.put(None)
    with anyio.fail_after(30):
        await stream.ended.wait()
