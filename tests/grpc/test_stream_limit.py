"""More calls than the peer allows streams: a proxy's hundred, for example."""

from __future__ import annotations

from contextlib import suppress

import anyio
import h2.exceptions
import pytest

from etcdleader._grpc import Status
from tests.grpc.http2_client import PATH, PATIENCE, client
from tests.grpc.test_http2_calls import calls

pytestmark = pytest.mark.anyio


async def test_calls_that_wait_for_a_slot_get_one_in_turn_and_cancelled_ones_keep_none() -> None:
    count, room = 60, 5
    async with client(stream=False) as one:
        await one.allow(room)
        ended: list[int] = []
        scopes = [anyio.CancelScope() for _ in range(count)]

        async def call(number: int) -> None:
            with scopes[number]:
                await one.connection.unary_unary(PATH, b"%d" % number, timeout=PATIENCE)
                ended.append(number)

        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(call, number)
                await anyio.wait_all_tasks_blocked()
            answered: set[int] = set()
            leaving = iter(scopes[1::2])
            while not set(range(0, count, 2)) <= set(ended):
                for number in sorted(set(one.server.data) - answered):
                    answered.add(number)
                    with suppress(h2.exceptions.ProtocolError):  # its caller is one of the cancelled ones
                        await one.server.answer(number)
                    for scope in (next(leaving, None), next(leaving, None)):
                        if scope is not None:
                            scope.cancel()
                assert len(one.connection._exchanges) <= room
                await anyio.sleep(0.001)
        evens = [number for number in ended if number % 2 == 0]
        assert evens == sorted(evens)
        assert one.connection._calls.waiting == 0
        assert one.connection._calls.borrowed_tokens == 0


async def test_calls_are_limited_as_the_member_allows_and_streams_get_a_slot() -> None:
    async with client(stream=False) as one:
        await one.allow(5)
        async with calls(one, 10) as results:
            for first in (1, 3, 5):
                await one.server.wait_for_data(first)
            one.open()
            await one.server.wait_for_data(one.number)
            assert one.number == 7
            assert sorted(one.server.data) == [1, 3, 5, 7]
            asked = {7}
            while len(results) < 10:
                for number in sorted(set(one.server.data) - asked):
                    asked.add(number)
                    await one.server.answer(number)
                assert len(one.connection._exchanges) <= 5
                await anyio.sleep(0.001)
        assert results == [b"answer"] * 10


async def test_a_call_that_gets_no_stream_slot_in_time_fails_without_sending_a_request() -> None:
    async with client() as one:
        await one.allow(1)
        async with calls(one, timeout=0.05) as results:
            pass
        (result,) = results
        assert isinstance(result, Status)
        assert result.code == "UNAVAILABLE"
        assert "the peer allows 1 streams at a time (SETTINGS_MAX_CONCURRENT_STREAMS), and 1 are open" in result.message
        assert sorted(one.server.data) == [one.number]


async def test_slots_that_the_peer_allows_later_are_used() -> None:
    async with client() as one:
        await one.allow(1)
        async with calls(one) as results:
            await anyio.wait_all_tasks_blocked()
            await one.allow(50)
            await one.server.wait_for_data(one.number + 2)
            await one.server.answer(one.number + 2)
        assert results == [b"answer"]
