"""A queue of candidates, for the tests of hand-overs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from etcdleader import EtcdLeaderManager
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import make

__all__ = ("names", "queue_of")


@asynccontextmanager
async def queue_of(
    etcd: FakeEtcd, clock: VirtualClock, count: int, *, latency: float = 0
) -> AsyncIterator[list[EtcdLeaderManager]]:
    """Yield candidates in the order of their queue; the first one leads."""
    clients = [etcd.client(f"c{number}") for number in range(count)]
    for client in clients:
        client.latency = latency
    managers = [make(client, clock) for client in clients]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await managers[0].wait_elected()
        yield managers
        for manager in managers:
            await manager.stop()


async def names(manager: EtcdLeaderManager) -> list[str]:
    return [record.identity for record in await manager.candidates()]
