"""Leases that are renewed in one round: what becomes of one is not what becomes of the others."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import Config, LeadershipLostError, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.test_renewal import KeepAlives
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

PATIENT = Config(enabled=True, id="sim", lease=10, renew=2, retry=3, margin=1)
"""An attempt may take longer than it is from one renewal to the next."""


async def test_an_extension_does_not_wait_for_a_round_that_is_over_for_its_lease(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The other lease of the round is tried once more. That attempt confirms nothing of ours."""
    client = etcd.client()
    ours, other = make(client, clock, election="ours"), make(client, clock, election="other")
    async with ours:
        await ours.wait_elected()
        async with other:
            await other.wait_elected()
            client.delay("lease_keep_alive", times=1)  # of ours: none
            client.lose_answer("lease_keep_alive")
            client.delay("lease_keep_alive", answer=0.8)
            await until(lambda: ours.statistics().renewals == 1 and other.statistics().renewal_failures == 1)
            client.clear_faults()
            before = clock()
            await ours.extend()
            assert clock() - before < 0.1
            assert other.statistics().renewals == 0


async def test_a_round_that_goes_on_for_one_lease_holds_up_no_other(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    seen = KeepAlives(etcd)
    ours, other = (make(client, clock, election=name, config=PATIENT) for name in ("ours", "other"))
    async with ours:
        term = await ours.wait_elected()
        async with other:
            await other.wait_elected()
            client.delay("lease_keep_alive", times=1)
            client.lose_answer("lease_keep_alive", times=2)  # of the other, in both attempts
            await until(lambda: other.statistics().renewal_failures == 1)
            await anyio.sleep(0.1)
            # Confirmed late, since the answers of a round are waited for together, and so due at once.
            assert seen.times(term.lease_id) == [2, 5]


async def test_an_extension_that_waited_past_the_deadline_renews_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The seat was counted as lost, and must become free, though its work is still ending."""
    client = etcd.client()
    seen = KeepAlives(etcd)
    manager = make(client, clock)

    async def slow_to_end(manager: object, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)

    manager.on_elected(slow_to_end)
    believed = CONFIG.lease - CONFIG.margin
    async with manager:
        term = await manager.wait_elected()
        client.lose_answer("txn", times=10_000)
        await anyio.sleep(believed - CONFIG.retry)
        reads = client.calls["txn"]
        await until(lambda: client.calls["txn"] > reads)
        with pytest.raises(LeadershipLostError):
            await manager.extend()
        assert clock() > believed
        assert not term.is_valid()
        client.clear_faults()
        assert seen.times(term.lease_id)[-1] < believed


async def test_a_clock_need_not_be_hashable(etcd: FakeEtcd) -> None:
    class Clock:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Clock)

        def __call__(self) -> float:
            return anyio.current_time()

    manager = make(etcd, Clock())
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
