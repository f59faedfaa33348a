"""Hundreds of elections in one process, on one connection: which resources they share, and which they do not."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import LossReason
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.crowd import MANY, PER_READ, leaders, tokens
from tests.sim.world import CONFIG, Recorder, make, until

pytestmark = pytest.mark.anyio


async def test_renewals_due_at_once_are_sent_in_rounds_that_fit_into_one_read_each(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    async with leaders(client, clock) as managers:
        before, led = client.calls.copy(), tokens(managers)
        await anyio.sleep(5 * CONFIG.renew)
        spent = client.calls - before
        assert set(spent) - {"member_status", "range"} == {"lease_keep_alive", "txn", "watch_progress"}
        assert spent["watch_progress"] <= 5 * CONFIG.renew / CONFIG.retry, "one for all watches of the connection"
        # One round more or less at each end. Each round may start a tenth early.
        assert 4 * MANY <= spent["lease_keep_alive"] <= 6 * MANY
        assert spent["txn"] + spent["range"] <= 2 * 6 * (MANY / PER_READ + 1), "a proposal and a read each"
        assert tokens(managers) == led


async def test_renewals_due_soon_join_a_round_that_is_due(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A hundred leases, a fiftieth of a second apart, are renewed in ten rounds in two seconds, not in a hundred."""
    client = etcd.client()
    async with leaders(client, clock, 100, apart=CONFIG.renew / 100) as managers:
        before, led = client.calls.copy(), tokens(managers)
        await anyio.sleep(5 * CONFIG.renew)
        spent = client.calls - before
        assert 4 * 100 <= spent["lease_keep_alive"] <= 6 * 100
        assert spent["txn"] + spent["range"] <= 2 * 6 * 10, "a proposal and a read each, of a single key a range"
        assert tokens(managers) == led


@pytest.mark.parametrize("reason", [LossReason.DELETED, LossReason.REVOKED])
async def test_one_deleted_key_or_lease_among_many_ends_its_own_term_without_a_watch_event(
    etcd: FakeEtcd, clock: VirtualClock, reason: LossReason
) -> None:
    client = etcd.client()
    async with leaders(client, clock) as managers:
        led = [manager.term for manager in managers]
        client.stall_watches()
        victim = led[137]
        assert victim is not None
        if reason is LossReason.DELETED:
            etcd.delete(victim.key)
        else:
            etcd.revoke(victim.lease_id)
        await until(lambda: victim.loss_reason is not None, timeout=CONFIG.renew + 2 * CONFIG.retry)
        assert victim.loss_reason is reason
        await anyio.sleep(2 * CONFIG.lease)
        assert [number for number, term in enumerate(led) if term is None or not term.is_valid()] == [137]


async def test_a_member_that_freezes_in_the_middle_of_a_round_ends_no_leadership(clock: VirtualClock) -> None:
    """The keep-alives were answered, the reads are not. All are repeated on another member, before any deadline."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        client.latency = 0.02
        async with leaders(client, clock) as managers:
            led = tokens(managers)
            for _ in range(2):
                answered = client.calls["txn"]
                await until(lambda: client.calls["txn"] > answered)  # noqa: B023 - awaited here
                member = client.member
                member.freeze()
                await anyio.sleep(CONFIG.lease)
                assert client.member is not member
                member.recover()
            assert tokens(managers) == led


async def test_all_leaders_detect_a_suspend_of_the_machine_within_a_tick(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The loop's clock stood still, so none of the loop's timers was due."""
    client = etcd.client()
    ends_at = CONFIG.margin / 2
    managers = [make(client, clock, election=f"election-{number}") for number in range(MANY)]
    recorders = [Recorder(manager) for manager in managers]
    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(manager.campaign)
        for manager in managers:
            await manager.wait_elected()
        await anyio.sleep(0.1)
        clock.advance(CONFIG.lease)
        assert not any(manager.is_leader() for manager in managers)
        await until(
            lambda: all("ousted: EXPIRED" in recorder.entries for recorder in recorders), timeout=ends_at + 0.01
        )
        group.cancel_scope.cancel()
