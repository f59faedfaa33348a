"""etcd creates each watch and cancels it at once. A created watch is no evidence that it will last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader._etcd.messages import WatchResponse
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make

pytestmark = pytest.mark.anyio

SECONDS = 30
FEW = 3 * SECONDS / CONFIG.retry


def cancel_watches(etcd: FakeEtcd, compact_revision: int) -> None:
    """Cancel the watches that are created."""
    for member in etcd.members:
        streams: list[Any] = list(member.streams)
        for stream in streams:
            for number, watch in list(stream._watches.items()):
                response = WatchResponse(member.header(), number, canceled=True, cancel_reason="cancelled")
                stream._answer_from_watch(response._replace(compact_revision=compact_revision))
                member.watches.close(watch)


@asynccontextmanager
async def cancelling(etcd: FakeEtcd, compact_revision: int) -> AsyncIterator[None]:
    async def cancel() -> None:
        while True:
            cancel_watches(etcd, compact_revision)
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        yield
        group.cancel_scope.cancel()


@pytest.mark.parametrize("compact_revision", [0, 5], ids=["cancelled", "compacted"])
async def test_a_candidate_creates_a_watch_that_is_cancelled_at_once_with_pauses(
    etcd: FakeEtcd, clock: VirtualClock, compact_revision: int
) -> None:
    leader, waiting = etcd.client("leader"), etcd.client("waiting")
    async with make(leader, clock) as manager:
        term = await manager.wait_elected()  # before the other one begins: trio starts tasks in any order
        async with make(waiting, clock, "waiting"), cancelling(etcd, compact_revision):
            await anyio.sleep(SECONDS)
        assert term.is_valid()
    for client in (leader, waiting):
        assert SECONDS / 3 < client.calls["watch"] < FEW


@pytest.mark.parametrize("compact_revision", [0, 5], ids=["cancelled", "compacted"])
async def test_an_observer_creates_a_watch_that_is_cancelled_at_once_with_pauses(
    etcd: FakeEtcd, clock: VirtualClock, compact_revision: int
) -> None:
    client = etcd.client()
    async with cancelling(etcd, compact_revision), make(client, clock).observe() as leaders:
        assert await anext(leaders) is None
        with anyio.move_on_after(SECONDS):
            await anext(leaders)
    assert SECONDS / 3 < client.calls["watch"] < FEW


async def test_a_watch_that_has_lasted_and_was_compacted_is_created_again_at_once(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """It fell behind in an outage, for example. Until it is created again, no event is received."""
    client = etcd.client()
    async with make(client, clock) as manager:
        await manager.wait_elected()
        for _ in range(5):
            await anyio.sleep(CONFIG.retry + 0.1)
            before = client.calls["watch"]
            cancel_watches(etcd, 5)
            await anyio.sleep(0.01)
            assert client.calls["watch"] == before + 1
