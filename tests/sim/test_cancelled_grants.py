"""A grant whose caller was cancelled may be applied after the revocation that should undo it."""

from __future__ import annotations

import anyio
import pytest

from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("late", [0.0, 0.05, 0.2, 0.4])
async def test_a_cancelled_grant_that_is_applied_late_leaves_no_lease(
    etcd: FakeEtcd, clock: VirtualClock, late: float
) -> None:
    """The revocation arrives first and finds no lease. It is repeated for a while."""
    client = etcd.client()
    client.delay("lease_grant", request=0.02 + late)
    async with anyio.create_task_group() as group:
        group.start_soon(make(client, clock).campaign)
        await anyio.sleep(0.01)
        assert client.calls["lease_grant"] == 1
        group.cancel_scope.cancel()
    await anyio.sleep(1)
    assert not etcd.leases()


async def test_a_cancelled_grant_that_is_never_applied_delays_the_end_by_half_of_retry(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    client.lose_request("lease_grant")
    async with anyio.create_task_group() as group:
        group.start_soon(make(client, clock).campaign)
        await anyio.sleep(0.01)
        begun = anyio.current_time()
        group.cancel_scope.cancel()
    assert anyio.current_time() - begun <= CONFIG.retry / 2 + 0.1
    assert client.calls["lease_revoke"] <= 10


async def test_a_granted_lease_that_has_ended_is_revoked_once(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        etcd.revoke(term.lease_id)
        begun, before = anyio.current_time(), client.calls["lease_revoke"]
        await manager.stop()
    assert anyio.current_time() - begun < 0.1
    assert client.calls["lease_revoke"] - before <= 2, "its own, and that of the candidacy after it"
