"""A few of thousands of callers send requests to etcd at a time, and the others queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from etcdleader import Config
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.crowd import leaders, tokens
from tests.sim.world import CONFIG, make

pytestmark = pytest.mark.anyio

AT_A_TIME = 64
MANY = 3 * AT_A_TIME


async def test_concurrent_calls_of_candidacies_are_limited(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = 0.01
    under_way = most = 0

    def counted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counting(*arguments: Any, **options: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await call(*arguments, **options)
            finally:
                under_way -= 1

        return counting

    for name in ("lease_grant", "txn", "range", "lease_revoke"):
        setattr(client, name, counted(getattr(client, name)))
    async with leaders(client, clock, MANY) as managers:
        assert all(tokens(managers))
    assert AT_A_TIME // 2 < most <= AT_A_TIME + 2  # two rounds of renewals may read


async def test_many_managers_that_stop_release_leadership_though_it_takes_longer_than_retry(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Each waits for etcd's response to its own call for at most that time."""
    client = etcd.client()
    async with leaders(client, clock, MANY) as managers:
        client.latency = 0.2 * CONFIG.retry  # request and response
        begun = clock()
        async with anyio.create_task_group() as group:
            for manager in managers:
                group.start_soon(manager.stop)
        assert clock() - begun > CONFIG.retry
        assert not etcd.keys()


async def test_many_managers_stop_within_retry_if_etcd_does_not_respond(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leaders(client, clock, MANY) as managers:
        client.lose_answer("lease_revoke", times=10_000)
        client.delay("lease_revoke", answer=10_000)
        begun = clock()
        async with anyio.create_task_group() as group:
            for manager in managers:
                group.start_soon(manager.stop)
        assert clock() - begun <= CONFIG.retry + 0.1


async def test_stop_does_not_wait_for_callers_with_longer_timeouts(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    patient = Config(enabled=True, id="sim", lease=1000, renew=100, retry=300, margin=10)
    leader = make(client, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(leader.campaign)
        await leader.wait_elected()
        client.delay("lease_grant", answer=10_000, times=AT_A_TIME)
        for number in range(AT_A_TIME):
            group.start_soon(make(client, clock, election=f"election-{number}", config=patient).campaign)
        await anyio.sleep(0.1)
        begun = clock()
        await leader.stop()
        assert clock() - begun <= CONFIG.retry + 0.1
        group.cancel_scope.cancel()
