"""Check how, and how soon, a leader detects the loss of its leadership."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdRegressedError, LeadershipLostError, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, leading, make, until

pytestmark = pytest.mark.anyio

Act = Callable[[FakeEtcd, Term], object]


def delete(etcd: FakeEtcd, term: Term) -> None:
    etcd.delete(term.key)


def revoke(etcd: FakeEtcd, term: Term) -> None:
    etcd.revoke(term.lease_id)


def overwrite(etcd: FakeEtcd, term: Term) -> None:
    etcd.put(term.key, "thief", lease=term.lease_id)


def take_off_its_lease(etcd: FakeEtcd, term: Term) -> None:
    etcd.put(term.key, term.identity)


@pytest.mark.parametrize("act", [delete, revoke, overwrite, take_off_its_lease])
async def test_a_change_of_the_key_by_hand_ends_the_term_at_once(etcd: FakeEtcd, clock: VirtualClock, act: Act) -> None:
    manager = make(etcd, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(3)
        act(etcd, term)
        await anyio.wait_all_tasks_blocked()
        assert not term.is_valid()
        assert term.loss_reason is LossReason.DELETED
        etcd.delete(term.key)  # On another client's key without our lease, it would stay until it is deleted.
        again = await manager.wait_elected()
        assert again.token > term.token
        assert again.lease_id != term.lease_id
    assert recorder.entries[:3] == ["elected", "work cancelled", "ousted: DELETED"]


async def test_a_leader_without_responses_from_etcd_stops_a_margin_before_the_lease_ends(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(2.5)  # one renewal, sent at 2.0
        etcd.members[0].freeze()
        with pytest.raises(LeadershipLostError):
            async with manager.leading():
                await anyio.sleep_forever()
        assert clock() == pytest.approx(2 + CONFIG.lease - CONFIG.margin, abs=0.01)
        assert term.loss_reason is LossReason.EXPIRED
        etcd.members[0].recover()
        assert (await manager.wait_elected()).token > term.token
    assert recorder.entries[:3] == ["elected", "work cancelled", "ousted: EXPIRED"]
    assert [type(error).__name__ for error in recorder.errors] == ["EtcdUnavailableError"]


async def test_one_lost_renewal_ends_no_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):
        for _ in range(10):
            etcd.members[0].freeze()
            await anyio.sleep(1.5)
            etcd.members[0].recover()
            await anyio.sleep(4)
            assert term.is_valid()


async def test_a_leader_suspended_past_its_lease_is_not_leader_on_the_first_check(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The loop's clock stood still meanwhile; the manager's clock did not."""
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(1)
        clock.advance(20)
        assert not manager.is_leader()
        assert not term.is_valid()
        assert term.remaining() <= 0
        await until(lambda: term.loss_reason is not None, timeout=1)
        assert term.loss_reason is LossReason.EXPIRED


async def test_a_deposed_etcd_leader_extends_nothing(clock: VirtualClock) -> None:
    """It acknowledges keep-alives of a lease that its successor may have revoked already (measured)."""
    async with FakeEtcd(members=3) as etcd:
        manager = make(etcd, clock)
        async with manager:
            term = await manager.wait_elected()
            await anyio.sleep(2.5)
            etcd.members[0].depose()
            etcd.revoke(term.lease_id)
            await anyio.sleep(CONFIG.lease)
            assert not term.is_valid()


async def test_a_key_deleted_while_the_watch_was_stalled_is_detected_by_the_next_renewal(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        await anyio.sleep(0.5)
        client.stall_watches()
        etcd.delete(term.key)
        await until(lambda: not term.is_valid(), timeout=CONFIG.renew + CONFIG.retry)
        assert term.loss_reason is LossReason.DELETED


async def test_a_regression_of_the_cluster_ends_the_campaign(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Tokens would start again from lower numbers, so an operator must check it."""
    manager = make(etcd, clock)
    etcd.put("other", "x")
    recorder = Recorder(manager)
    with pytest.raises(EtcdRegressedError):
        async with manager:
            await manager.wait_elected()
            backup = etcd.snapshot()
            for number in range(5):
                etcd.put("other", str(number))
            await anyio.sleep(5)
            etcd.restore(backup)
            await anyio.sleep(60)
    assert recorder.terms[0].loss_reason is LossReason.REGRESSED
    assert not manager.is_leader()


async def test_a_put_that_changes_nothing_makes_the_leader_resign(etcd: FakeEtcd, clock: VirtualClock) -> None:
    first, second = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with first:
        term = await first.wait_elected()
        async with second:
            await until(lambda: len(etcd.keys()) == 2)
            etcd.request_step_down(term.key)
            successor = await second.wait_elected()
            assert term.loss_reason is LossReason.RESIGNED
            assert successor.token > term.token
