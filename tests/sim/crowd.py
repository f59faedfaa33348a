"""Many managers at once, each in a separate election."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from etcdleader import EtcdLeaderManager
from etcdleader._etcd.api import KeepAliveResponses
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import make

MANY = 200
PER_READ = 128


@asynccontextmanager
async def leaders(
    client: FakeClient, clock: VirtualClock, many: int = MANY, *, apart: float = 0
) -> AsyncIterator[list[EtcdLeaderManager]]:
    """Yield this many managers, each of which leads a separate election."""
    managers = [make(client, clock, election=f"election-{number}") for number in range(many)]
    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(manager.campaign)
            await anyio.sleep(apart)
        for manager in managers:
            await manager.wait_elected()
        yield managers
        group.cancel_scope.cancel()


def leave_out(client: FakeClient, lease_id: int) -> None:
    """From now on, send no keep-alive of this lease, and make no caller wait for its response."""
    send = client.lease_keep_alive

    async def send_the_others(lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        others = [one for one in lease_ids if one != lease_id]
        return await send(others, timeout=timeout) if others else KeepAliveResponses()

    client.lease_keep_alive = send_the_others  # type: ignore[method-assign]


def tokens(managers: Sequence[EtcdLeaderManager]) -> list[int]:
    return [0 if (term := manager.term) is None else term.token for manager in managers]
