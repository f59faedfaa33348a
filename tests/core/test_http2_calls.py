"""Calls, one request and one answer, against a server that does what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader import EtcdConfig, EtcdUnavailableError
from etcdleader._etcd.endpoint import DirectEndpoint
from etcdleader._etcd.etcd3_messages import etcdrpc
from etcdleader._etcd.rpcs import RANGE
from etcdleader._grpc import RpcError, Status
from etcdleader._grpc import connection as http2
from tests.core.http2_client import PATH, PATIENCE, Client, client
from tests.core.http2_server import Server, framed, serving

pytestmark = pytest.mark.anyio

OK = (("grpc-status", "0"),)


@asynccontextmanager
async def calls(one: Client, count: int = 1, timeout: float = PATIENCE) -> AsyncIterator[list[bytes | Status]]:
    """So many under way, asked for in order; their results, as they come: a response, or why there is none."""
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


async def ask_in_vain(one: Client) -> None:
    await one.connection.unary_unary(PATH, b"never mind", timeout=PATIENCE)


async def answer(server: Server, number: int, message: bytes = b"answer", *trailers: tuple[str, str]) -> None:
    await server.send(number, framed(message))
    await server.end(number, *(trailers or OK))


async def test_a_call_is_one_request_that_ends_and_one_answer() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.until_there_is(1, 10)
        assert one.server.data[1] == framed(b"ask 0")
        assert one.server.ended == [1]
        assert one.server.headers[1]["grpc-timeout"].endswith("u")
        await answer(one.server, 1)
    assert results == [b"answer"]
    assert one.heard, "which is a reason to stay with that endpoint"
    assert one.server.reset == []


async def test_many_calls_are_answered_in_any_order() -> None:
    async with client() as one:
        async with calls(one, 50) as results:
            numbers = [one.number + 2 * place for place in range(1, 51)]
            for number in numbers:
                await one.server.until_there_is(number, 10)
            first = bytes(one.server.data[numbers[-1]][5:])
            for number in reversed(numbers):
                await answer(one.server, number, bytes(one.server.data[number][5:]))
        assert set(results) == {b"ask %d" % number for number in range(50)}
        assert results[0] == first
        assert one.ends == []


async def test_an_answer_that_comes_in_pieces_is_one() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.until_there_is(1)
        for byte in framed(b"in pieces"):
            await one.server.send(1, bytes([byte]))
        await one.server.end(1, *OK)
    assert results == [b"in pieces"]


@pytest.mark.parametrize(
    ("messages", "result"),
    [
        ([], Status("INTERNAL", "0 answers to one request")),
        ([b"one", b"two"], Status("INTERNAL", "2 answers to one request")),
        ([b"one"], b"one"),
    ],
)
async def test_an_answer_is_one_message_no_less_and_no_more(messages: list[bytes], result: bytes | Status) -> None:
    async with client(stream=False) as one:
        async with calls(one) as results:
            await one.server.until_there_is(1)
            for message in messages:
                await one.server.send(1, framed(message))
            await one.server.end(1, *OK)
        assert results == [result]
        assert one.connection.is_open


async def test_an_error_of_etcds_is_the_calls_alone() -> None:
    async with client() as one:
        async with calls(one) as results:
            await one.server.until_there_is(one.number + 2)
            await one.server.end(one.number + 2, ("grpc-status", "5"), ("grpc-message", "requested lease not found"))
        assert results == [Status("NOT_FOUND", "requested lease not found")]
        assert one.connection.is_open
        assert one.ends == []


async def test_a_call_that_is_not_answered_in_time_is_withdrawn_and_says_so() -> None:
    async with client() as one:
        async with calls(one, timeout=0.05) as results:
            pass
        assert code(results[0]) == "DEADLINE_EXCEEDED"
        assert one.server.headers[one.number + 2]["grpc-timeout"].endswith("u")
        while one.number + 2 not in one.server.reset:
            await anyio.sleep(0.001)
        assert one.ends == []


async def test_a_call_that_is_cancelled_is_withdrawn_and_the_others_go_on() -> None:
    async with client(stream=False) as one, calls(one) as results:
        await one.server.until_there_is(1)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ask_in_vain, one)
                await one.server.until_there_is(3)
                scope.cancel()
        while 3 not in one.server.reset:
            await anyio.sleep(0.001)
        await answer(one.server, 1)
    assert results == [b"answer"]


async def test_a_call_that_nothing_is_heard_after_ends_the_connection() -> None:
    async with client() as one:
        await one.server.send(one.number, framed(b"all that was on its way is there now"))
        await one.received(1)
        one.server.deaf = True
        async with calls(one, timeout=3 * http2._SUSPICIOUS) as results:
            pass
        assert code(results[0]) == "DEADLINE_EXCEEDED"
        assert not one.connection.is_open
        assert (await one.end()).code == "UNAVAILABLE"


async def test_a_call_that_is_cancelled_says_nothing_of_the_connection() -> None:
    """Whoever asked may have had no time to wait: the others have, and the member may only be slow."""
    async with client() as one:
        one.server.deaf = True
        with anyio.move_on_after(3 * http2._SUSPICIOUS):
            await ask_in_vain(one)
        assert one.connection.is_open
        assert one.ends == []


async def test_a_goodbye_lets_calls_end_ends_streams_and_names_what_was_not_touched() -> None:
    async with client() as one, calls(one, 2) as results:
        first, second = one.number + 2, one.number + 4
        await one.server.until_there_is(second)
        await one.server.say_goodbye(first)
        assert (await one.end()).code == "UNAVAILABLE"
        assert not one.connection.is_open
        while not results:
            await anyio.sleep(0.001)
        assert isinstance(results[0], Status)
        assert results[0].unprocessed
        await answer(one.server, first)
    assert results[1] == b"answer"
    await one.connection.ended.wait()


# On an endpoint, which makes the connections


Plan = Callable[[Server, int], Any]


@asynccontextmanager
async def endpoint_to(*plans: Plan) -> AsyncIterator[tuple[DirectEndpoint, list[Server]]]:
    """``plans`` are followed by the connections, in order; each is told the number of its first stream."""
    with anyio.fail_after(PATIENCE):
        async with serving() as (address, servers), anyio.create_task_group() as group:
            endpoint = DirectEndpoint(address, EtcdConfig([address]))
            endpoint._examiner = None  # as when it has answered before: nobody wonders whether TLS is spoken

            async def follow() -> None:
                for place, plan in enumerate(plans):
                    while len(servers) <= place:
                        await anyio.sleep(0.001)
                    await servers[place].until_there_is(1, 5)
                    await plan(servers[place], 1)

            group.start_soon(follow)
            try:
                yield endpoint, servers
            finally:
                endpoint.close()
                await endpoint.closed()
                group.cancel_scope.cancel()


async def ask(endpoint: DirectEndpoint) -> Any:
    return await endpoint.call(RANGE, etcdrpc.RangeRequest(key=b"a"), (), PATIENCE)


async def refuse(server: Server, number: int) -> None:
    server.connection.reset_stream(number, 7)
    await server.flush()


async def go_away_before_it(server: Server, number: int) -> None:
    await server.say_goodbye(0)


async def found(server: Server, number: int) -> None:
    await answer(server, number, etcdrpc.RangeResponse(count=3).SerializeToString())


async def hang_up(server: Server, number: int) -> None:
    await server.hang_up()


async def test_what_a_server_did_not_touch_is_asked_once_more_on_a_new_connection() -> None:
    async with endpoint_to(go_away_before_it, found) as (endpoint, servers):
        assert (await ask(endpoint)).count == 3
        assert len(servers) == 2


async def test_what_a_server_refused_is_asked_once_more_and_no_more() -> None:
    async def refuse_twice(server: Server, number: int) -> None:
        await refuse(server, number)
        await server.until_there_is(number + 2, 5)
        await refuse(server, number + 2)

    async with endpoint_to(refuse_twice) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError, match="reset"):
            await ask(endpoint)
        assert sorted(servers[0].data) == [1, 3]


@pytest.mark.parametrize("how", ["refuses it", "goes away"])
async def test_what_a_server_began_to_answer_is_not_asked_again_whatever_it_says(how: str) -> None:
    async def begin(server: Server, number: int) -> None:
        server.begin(number)
        await server.flush()
        await (refuse if how == "refuses it" else go_away_before_it)(server, number)

    async with endpoint_to(begin, found) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert [sorted(server.data) for server in servers] == [[1]]


async def test_what_may_have_been_done_is_not_asked_again() -> None:
    async with endpoint_to(hang_up) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert len(servers) == 1


async def test_an_answer_that_is_no_message_is_unavailable() -> None:
    async def nonsense(server: Server, number: int) -> None:
        await answer(server, number, b"\xff\xff\xff")

    async with endpoint_to(nonsense) as (endpoint, _):
        with pytest.raises(EtcdUnavailableError, match="cannot be read"):
            await ask(endpoint)


async def test_a_connection_that_broke_is_made_anew_for_the_next_call() -> None:
    async with endpoint_to(hang_up, found) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert (await ask(endpoint)).count == 3
        assert len(servers) == 2


async def test_an_endpoint_that_was_left_ends_the_calls_under_way_first_and_takes_no_other() -> None:
    left = anyio.Event()

    async def wait(server: Server, number: int) -> None:
        await left.wait()
        await found(server, number)

    async with endpoint_to(wait) as (endpoint, servers):
        results: list[Any] = []

        async def call() -> None:
            results.append(await ask(endpoint))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            while not servers:
                await anyio.sleep(0.001)
            await servers[0].until_there_is(1, 5)
            endpoint.leave()
            with pytest.raises(EtcdUnavailableError, match="closed"):  # such as a login that came late
                await ask(endpoint)
            left.set()
        assert results[0].count == 3
        await endpoint.closed()
        assert len(servers) == 1


async def test_connections_that_still_answer_are_closed_with_the_endpoint() -> None:
    """The one before the newest: it said goodbye, and its last call is under way."""

    async def say_goodbye(server: Server, number: int) -> None:
        await server.say_goodbye(number)

    async with endpoint_to(say_goodbye, found) as (endpoint, servers):
        raised: list[EtcdUnavailableError] = []

        async def call() -> None:
            with pytest.raises(EtcdUnavailableError) as closed:
                await ask(endpoint)
            raised.append(closed.value)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            while endpoint._connections == [] or endpoint._connections[0].is_open:
                await anyio.sleep(0.001)
            assert (await ask(endpoint)).count == 3
            assert len(servers) == 2
            endpoint.close()
            await endpoint.closed()
        assert len(raised) == 1


@pytest.mark.parametrize("name", ["a" * 64 + ".example:2379", "ex ample\0:2379"])
async def test_a_name_that_cannot_be_a_hosts_is_unavailable(name: str) -> None:
    endpoint = DirectEndpoint(name, EtcdConfig(["127.0.0.1:1"]))
    with pytest.raises(EtcdUnavailableError):
        await ask(endpoint)
    endpoint.close()
    await endpoint.closed()
