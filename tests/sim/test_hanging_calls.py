"""A call of a renewal that ignores its timeout and its cancellation delays no other operation."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from etcdleader import LeadershipLostError, LossReason
from etcdleader._etcd.api import Compares, KeepAliveResponses, Operations, TxnResult
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, make

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin


class HangingClient(FakeClient):
    """Hangs in calls of one kind until the test releases them."""

    def __init__(self, etcd: FakeEtcd) -> None:
        super().__init__("hangs", etcd._cluster, etcd.members)
        self.hangs = ""
        self.hanging = 0
        self.let_go = anyio.Event()

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        await self._may_hang("keep-alive")
        return await super().lease_keep_alive(lease_ids, timeout=timeout)

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        if not compare:  # a join is not part of a renewal
            await self._may_hang("read")
        return await super().txn(compare, success, failure, timeout=timeout)

    async def _may_hang(self, kind: str) -> None:
        if kind == self.hangs:
            self.hanging += 1
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
            self.hanging -= 1


@pytest.mark.parametrize("hangs", ["keep-alive", "read"])
async def test_a_renewal_that_ignores_cancellation_delays_neither_the_deadline_nor_the_next_term(
    etcd: FakeEtcd, clock: VirtualClock, hangs: str
) -> None:
    """A caller that waits for a renewal with a timeout waits for as long as the call hangs.

    The deadline is checked independently. Other leases are renewed, including the next one of the same candidate.
    """
    client = HangingClient(etcd)
    first, successor = make(client, clock), make(etcd, VirtualClock(), "successor")
    recorder = Recorder(first)
    async with first:
        term = await first.wait_elected()
        async with successor:
            try:
                await anyio.sleep(0.5)
                client.hangs = hangs
                with pytest.raises(LeadershipLostError):
                    async with first.leading():
                        await anyio.sleep_forever()
                assert client.hanging == 1
                assert clock() == pytest.approx(TRUSTED, abs=0.01), "neither at the backstop nor when the call ends"
                assert term.loss_reason is LossReason.EXPIRED
                await anyio.wait_all_tasks_blocked()
                assert recorder.entries == ["elected", "work cancelled", "ousted: EXPIRED"]
                client.hangs = ""
                next_term = await successor.wait_elected()
                await anyio.sleep(3 * CONFIG.lease)
                assert next_term.is_valid()
                await successor.stop()
                with anyio.fail_after(1):
                    again = await first.wait_elected()
                assert again.token > next_term.token
                await anyio.sleep(3 * CONFIG.lease)
                assert again.is_valid()
                assert client.hanging == 1, "all the while"
            finally:
                client.let_go.set()
            await anyio.sleep(CONFIG.lease)
            assert client.hanging == 0
            assert again.is_valid(), "what comes so late means nothing to a later lease"


@pytest.mark.parametrize("hangs", ["keep-alive", "read"])
async def test_a_renewal_that_ignores_cancellation_does_not_delay_stop(
    etcd: FakeEtcd, clock: VirtualClock, hangs: str
) -> None:
    """Leadership is also released before the connection closes. This manager is the connection's last user."""
    client = HangingClient(etcd)
    manager = make(client, clock)
    try:
        async with manager:
            term = await manager.wait_elected()
            await anyio.sleep(0.5)
            client.hangs = hangs
            await anyio.sleep(CONFIG.renew)
            assert client.hanging == 1
            assert term.is_valid()
            with anyio.fail_after(CONFIG.retry + 1):
                await manager.stop()
        assert client.hanging == 1
        assert term.key.encode() not in etcd.keys()
    finally:
        client.let_go.set()
    await anyio.wait_all_tasks_blocked()
    assert client.hanging == 0
