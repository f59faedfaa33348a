"""The connection as the election requires it, on the fake and on the real etcd alike."""

from __future__ import annotations

import secrets

import anyio
import anyio.lowlevel
import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import EtcdApi, Put, Range
from etcdleader.errors import EtcdUnavailableError
from tests.contract.watching import TIMEOUT, Recorder
from tests.contract.world import World

pytestmark = pytest.mark.anyio


async def test_a_connection_implements_the_port(api: EtcdApi) -> None:
    """Managers use this to distinguish it from other clients."""
    assert isinstance(api, EtcdApi)


async def test_a_cancelled_call_leaves_the_connection_as_it_was(api: EtcdApi, prefix: bytes) -> None:
    """It is unknown whether the call was applied, but it was applied at most once."""
    for number in range(20):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await api.txn([], [Put(prefix + b"%d" % number)], timeout=TIMEOUT)
            # A response may be there before the cancellation, which asyncio delivers an iteration of the loop later.
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    result = await api.txn([], [Put(prefix + b"last"), Range(prefix + b"last")], timeout=TIMEOUT)
    assert result.succeeded
    found = await api.range(Range(prefix, prefix_end(prefix)), timeout=TIMEOUT)
    assert {kv.version for kv in found.kvs} == {1}


async def test_many_calls_run_side_by_side(api: EtcdApi, prefix: bytes) -> None:
    """Each gets its own response."""
    found: dict[int, bytes] = {}

    async def put_and_read(number: int) -> None:
        key = prefix + b"%d" % number
        await api.txn([], [Put(key, key)], timeout=TIMEOUT)
        found[number] = (await api.range(Range(key), timeout=TIMEOUT)).kvs[0].value

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(put_and_read, number)
    assert found == {number: prefix + b"%d" % number for number in range(100)}


async def test_switching_endpoints_loses_no_event_of_a_watch(world: World, prefix: bytes) -> None:
    """No event is missed or delivered twice, with or without another endpoint."""
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    await watch.created()
    revisions = []
    for _ in range(5):
        revisions.append((await world.other.txn([], [Put(prefix + b"k")], timeout=TIMEOUT)).header.revision)
        world.api.report_endpoint_failure(world.api.endpoint_number)
        revisions.append((await world.other.txn([], [Put(prefix + b"k")], timeout=TIMEOUT)).header.revision)
    assert [event.kv.mod_revision for event in await watch.events(10)] == revisions


async def test_a_connection_that_is_closed_fails_its_calls(world: World, prefix: bytes) -> None:
    """This includes calls of a task that has not noticed yet. Closing it again does nothing."""
    await world.api.range(Range(prefix), timeout=TIMEOUT)
    await world.api.aclose()
    await world.api.aclose()
    with pytest.raises(EtcdUnavailableError):
        await world.api.range(Range(prefix), timeout=TIMEOUT)
    with pytest.raises(EtcdUnavailableError):
        await world.api.lease_keep_alive([secrets.randbits(62)], timeout=TIMEOUT)
