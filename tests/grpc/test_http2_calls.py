"""Calls with one request and one response, against a server that the test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import h2.exceptions
import pytest

from etcdleader._grpc import RpcError, Status
from etcdleader._grpc import connection as http2
from tests.grpc.http2_client import PATH, PATIENCE, Client, client
from tests.grpc.http2_server import OK, framed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def calls(one: Client, count: int = 1, timeout: float = PATIENCE) -> AsyncIterator[list[bytes | Status]]:
    """Start this many calls in order. Yield their results as they arrive: a response, or the error."""
    results: list[bytes | Status] = []

    async def call(number: int) -> None:
        try:
            results.append(await one.connection.unary_unary(PATH, b"ask %d" % number, timeout=timeout))
        except RpcError as error:
            results.append(error.status)

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(call, number)
        yield results


def code(result: bytes | Status) -> str:
    return result.code if isinstance(result, Status) else "OK"


async def call_without_response(one: Client) -> None:
    await one.connection.unary_unary(PATH, b"never mind", timeout=PATIENCE)


async def test_a_call_sends_one_request_and_receives_one_response() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.wait_for_data(1, 10)
        assert one.server.data[1] == framed(b"ask 0")
        assert one.server.ended == [1]
        assert one.server.headers[1]["grpc-timeout"].endswith("u")
        await one.server.answer(1)
    assert results == [b"answer"]
    assert one.receipts, "a response is a sign of life"
    assert one.server.reset == []


async def test_many_calls_are_answered_in_any_order() -> None:
    async with client() as one:
        async with calls(one, 50) as results:
            numbers = [one.number + 2 * place for place in range(1, 51)]
            for number in numbers:
                await one.server.wait_for_data(number, 10)
            first = bytes(one.server.data[numbers[-1]][5:])
            for number in reversed(numbers):
                await one.server.answer(number, bytes(one.server.data[number][5:]))
        assert set(results) == {b"ask %d" % number for number in range(50)}
        assert results[0] == first
        assert one.ends == []


async def test_a_response_in_pieces_is_one_message() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.wait_for_data(1)
        for byte in framed(b"in pieces"):
            await one.server.send(1, bytes([byte]))
        await one.server.end(1, *OK)
    assert results == [b"in pieces"]


@pytest.mark.parametrize(
    ("messages", "result"),
    [
        ([], Status("INTERNAL", "0 responses to one request")),
        ([b"one", b"two"], Status("INTERNAL", "several responses to one request")),
        ([b"one"], b"one"),
    ],
)
async def test_a_response_is_exactly_one_message(messages: list[bytes], result: bytes | Status) -> None:
    async with client(stream=False) as one:
        async with calls(one) as results:
            await one.server.wait_for_data(1)
            for message in messages:
                await one.server.send(1, framed(message))
            with suppress(h2.exceptions.StreamClosedError):  # the client has cancelled the call
                await one.server.end(1, *OK)
        assert results == [result]
        assert one.connection.is_open


async def test_an_error_of_the_server_fails_its_call_only() -> None:
    async with client() as one:
        async with calls(one) as results:
            await one.server.wait_for_data(one.number + 2)
            await one.server.end(one.number + 2, ("grpc-status", "5"), ("grpc-message", "no such thing"))
        assert results == [Status("NOT_FOUND", "no such thing")]
        assert one.connection.is_open
        assert one.ends == []


async def test_a_call_without_a_response_in_time_is_cancelled_and_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_SUSPECT_AFTER_SECONDS", PATIENCE)  # a slow machine wakes the caller late
    async with client() as one:
        async with calls(one, timeout=0.05) as results:
            pass
        assert code(results[0]) == "DEADLINE_EXCEEDED"
        assert one.server.headers[one.number + 2]["grpc-timeout"].endswith("u")
        while one.number + 2 not in one.server.reset:
            await anyio.sleep(0.001)
        assert one.ends == []


async def test_a_cancelled_call_resets_its_stream_and_the_others_continue() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.wait_for_data(1)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(call_without_response, one)
                await one.server.wait_for_data(3)
                scope.cancel()
        while 3 not in one.server.reset:
            await anyio.sleep(0.001)
        await one.server.answer(1)
    assert results == [b"answer"]


async def test_a_call_after_which_no_data_arrives_ends_the_connection() -> None:
    async with client() as one:
        await one.server.send(one.number, framed(b"all that was on its way is there now"))
        await one.received(1)
        one.server.silent = True
        async with calls(one, timeout=3 * http2._SUSPECT_AFTER_SECONDS) as results:
            pass
        assert code(results[0]) == "DEADLINE_EXCEEDED"
        assert not one.connection.is_open
        assert (await one.end()).code == "UNAVAILABLE"


async def test_a_cancelled_call_is_no_evidence_against_the_connection() -> None:
    """Its caller may have had a short timeout, while others have a longer one, and the server may only be slow."""
    async with client() as one:
        one.server.silent = True
        with anyio.move_on_after(3 * http2._SUSPECT_AFTER_SECONDS):
            await call_without_response(one)
        assert one.connection.is_open
        assert one.ends == []


async def test_a_goaway_lets_calls_end_ends_streams_and_names_unprocessed_ones() -> None:
    async with client() as one, calls(one, 2) as results:
        first, second = one.number + 2, one.number + 4
        await one.server.wait_for_data(second)
        await one.server.send_goaway(first)
        assert (await one.end()).code == "UNAVAILABLE"
        assert not one.connection.is_open
        while not results:
            await anyio.sleep(0.001)
        assert isinstance(results[0], Status)
        assert results[0].unprocessed
        await one.server.answer(first)
    assert results[1] == b"answer"
    await one.connection.ended.wait()
