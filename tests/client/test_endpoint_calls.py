"""Calls of an endpoint, which makes the connections, to a server that the test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader import EtcdConfig, EtcdUnavailableError
from etcdleader._etcd.api import Range
from etcdleader._etcd.endpoint import Http2Endpoint
from etcdleader._etcd.etcd3_messages import etcdrpc
from etcdleader._etcd.rpcs import RANGE
from tests.client.endpoint_of import endpoint_of
from tests.grpc.http2_server import Server, framed, serving

pytestmark = pytest.mark.anyio

PATIENCE = 60

Plan = Callable[[Server, int], Any]


@asynccontextmanager
async def endpoint_to(*plans: Plan) -> AsyncIterator[tuple[Http2Endpoint, list[Server]]]:
    """``plans`` are followed by the connections, in order. Each receives the number of its first stream."""
    with anyio.fail_after(PATIENCE):
        async with serving() as (address, servers), anyio.create_task_group() as group:
            endpoint = endpoint_of(address, EtcdConfig([address], max_recv_bytes=2**20))
            endpoint._tls_diagnosis = None  # as after an earlier response: a failure is not diagnosed again

            async def follow() -> None:
                for place, plan in enumerate(plans):
                    while len(servers) <= place:
                        await anyio.sleep(0.001)
                    await servers[place].wait_for_data(1, 5)
                    await plan(servers[place], 1)

            group.start_soon(follow)
            try:
                yield endpoint, servers
            finally:
                endpoint.close()
                await endpoint.wait_closed()
                group.cancel_scope.cancel()


async def ask(endpoint: Http2Endpoint) -> Any:
    return await endpoint.call(RANGE, Range(b"a"), (), PATIENCE)


async def refuse(server: Server, number: int) -> None:
    server.connection.reset_stream(number, 7)
    await server.flush()


async def go_away_before_it(server: Server, number: int) -> None:
    await server.send_goaway(0)


async def found(server: Server, number: int) -> None:
    await server.answer(number, etcdrpc.RangeResponse(count=3).SerializeToString())


async def hang_up(server: Server, number: int) -> None:
    await server.close()


async def test_an_unprocessed_call_is_retried_once_on_a_new_connection() -> None:
    async with endpoint_to(go_away_before_it, found) as (endpoint, servers):
        assert (await ask(endpoint)).count == 3
        assert len(servers) == 2


async def test_a_refused_call_is_retried_once_and_not_again() -> None:
    async def refuse_twice(server: Server, number: int) -> None:
        await refuse(server, number)
        await server.wait_for_data(number + 2, 5)
        await refuse(server, number + 2)

    async with endpoint_to(refuse_twice) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError, match="reset"):
            await ask(endpoint)
        assert sorted(servers[0].data) == [1, 3]


@pytest.mark.parametrize("how", ["refuses it", "goes away"])
async def test_a_call_whose_response_has_begun_is_not_retried_whatever_its_status(how: str) -> None:
    async def begin(server: Server, number: int) -> None:
        server.begin(number)
        await server.flush()
        await (refuse if how == "refuses it" else go_away_before_it)(server, number)

    async with endpoint_to(begin, found) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert [sorted(server.data) for server in servers] == [[1]]


async def test_a_call_that_may_have_been_applied_is_not_retried() -> None:
    async with endpoint_to(hang_up, found) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert len(servers) == 1


async def test_an_answer_that_is_no_message_is_unavailable() -> None:
    async def nonsense(server: Server, number: int) -> None:
        await server.answer(number, b"\xff\xff\xff")

    async with endpoint_to(nonsense) as (endpoint, _):
        with pytest.raises(EtcdUnavailableError, match="cannot be read"):
            await ask(endpoint)


async def test_a_broken_connection_is_replaced_for_the_next_call() -> None:
    async with endpoint_to(hang_up, found) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint)
        assert (await ask(endpoint)).count == 3
        assert len(servers) == 2


async def test_a_former_endpoint_completes_its_calls_and_accepts_no_other() -> None:
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
            await servers[0].wait_for_data(1, 5)
            endpoint.drain()
            with pytest.raises(EtcdUnavailableError, match="closed"):  # such as a login that came late
                await ask(endpoint)
            left.set()
        assert results[0].count == 3
        await endpoint.wait_closed()
        assert len(servers) == 1


async def test_connections_that_still_answer_are_closed_with_the_endpoint() -> None:
    """It is the one before the newest: it sent GOAWAY, and its last call is in flight."""

    async def send_goaway(server: Server, number: int) -> None:
        await server.send_goaway(number)

    async with endpoint_to(send_goaway, found) as (endpoint, servers):
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
            await endpoint.wait_closed()
        assert len(raised) == 1


@pytest.mark.parametrize("name", ["a" * 64 + ".example:2379", "ex ample\0:2379"])
async def test_an_impossible_host_name_is_unavailable(name: str) -> None:
    endpoint = endpoint_of(name, EtcdConfig(["127.0.0.1:1"]))
    with pytest.raises(EtcdUnavailableError):
        await ask(endpoint)
    endpoint.close()
    await endpoint.wait_closed()


async def test_an_answer_that_is_too_long_names_the_setting() -> None:
    async def long(server: Server, number: int) -> None:
        await server.send(number, framed(bytes(2**20 + 1))[:100])

    async with endpoint_to(long) as (endpoint, servers):
        with pytest.raises(EtcdUnavailableError, match="1048577 bytes is longer than max_recv_bytes = 1048576"):
            await ask(endpoint)
        assert len(servers) == 1
