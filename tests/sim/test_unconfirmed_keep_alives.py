"""etcd acknowledges keep-alives of leases that are about to end, so a read must confirm each renewal."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import LossReason
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


async def test_a_lease_whose_revocation_is_committed_and_not_applied_is_not_extended_by_a_keep_alive(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """etcd 3.7 acknowledges it by default (FastLeaseKeepAlive).

    The watch is silent, so only the read shows the loss.
    """
    client = etcd.client()
    async with make(client, clock) as manager:
        term = await manager.wait_elected()
        client.stall_watches()
        etcd.apply_no_more()
        etcd.revoke(term.lease_id)
        assert (await client.lease_keep_alive([term.lease_id], timeout=1))[term.lease_id].ttl > 0
        await anyio.sleep(CONFIG.renew + 0.1)
        assert term.loss_reason is LossReason.DELETED
        assert manager.statistics().renewals == 0
        etcd.apply()
        client.resume_watches()


async def test_an_etcd_that_waits_until_it_has_applied_acknowledges_no_such_keep_alive(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    etcd.fast_lease_keep_alive = False
    client = etcd.client()
    async with make(client, clock) as manager:
        term = await manager.wait_elected()
        client.stall_watches()
        etcd.apply_no_more()
        etcd.revoke(term.lease_id)
        await until(lambda: manager.statistics().renewal_failures > 0)
        assert term.is_valid()
        etcd.apply()
        await until(lambda: not term.is_valid(), timeout=2 * CONFIG.retry)
        assert term.loss_reason is LossReason.REVOKED
        client.resume_watches()


async def test_a_renewal_in_the_middle_of_a_revocation_extends_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Every etcd deletes the keys first and then the lease (etcd#14758)."""
    client = etcd.client()
    async with make(client, clock) as manager:
        term = await manager.wait_elected()
        client.stall_watches()
        etcd.revoke_halfway(term.lease_id)
        assert (await client.lease_keep_alive([term.lease_id], timeout=1))[term.lease_id].ttl > 0
        await anyio.sleep(CONFIG.renew + 0.1)
        assert term.loss_reason is LossReason.DELETED
        assert manager.statistics().renewals == 0
        client.resume_watches()
