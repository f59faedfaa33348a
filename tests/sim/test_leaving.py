"""Every end of a term has the same order: mark, cancel, join, OUSTED, on_ousted, release."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from etcdleader import (
    EtcdLeaderManager,
    EtcdUnavailableError,
    LeaderManager,
    LeadershipLostError,
    LeaderStatus,
    LossReason,
    Term,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """An error of the user's code."""


async def stop(manager: EtcdLeaderManager, group: TaskGroup) -> None:
    await manager.stop()


async def resign(manager: EtcdLeaderManager, group: TaskGroup) -> None:
    await manager.resign()


async def cancel(manager: EtcdLeaderManager, group: TaskGroup) -> None:
    group.cancel_scope.cancel()


async def fail(manager: EtcdLeaderManager, group: TaskGroup) -> None:
    raise Boom


Way = Callable[[EtcdLeaderManager, TaskGroup], Coroutine[Any, Any, None]]
WAYS: dict[Way, LossReason] = {
    stop: LossReason.STOPPED,
    resign: LossReason.RESIGNED,
    cancel: LossReason.STOPPED,
    fail: LossReason.FAILED,
}


@pytest.mark.parametrize("way", WAYS)
async def test_each_end_of_a_campaign_releases_last(etcd: FakeEtcd, clock: VirtualClock, way: Way) -> None:
    """The lease is renewed while the work cleans up. One request releases it after on_ousted."""
    manager = make(etcd, clock)
    order: list[str] = []
    terms: list[Term] = []
    begin = anyio.Event()

    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append(f"cancelled, valid: {term.is_valid()}, {manager.status.name}")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(CONFIG.lease * 0.8)  # longer than several renewals
            order.append("joined")

    async def fail_on_request(manager: LeaderManager, term: Term) -> None:
        await begin.wait()
        if way is fail:
            raise Boom

    async def ousted(manager: LeaderManager, term: Term) -> None:
        order.append(f"ousted, {manager.status.name}")
        await anyio.sleep(CONFIG.retry / 2)
        order.append("ousted returned")

    def see(call: Call) -> None:
        if call.kind == "lease_revoke" and call.stage == "before":
            order.append("revoked")

    manager.on_elected(work)
    manager.on_elected(fail_on_request)
    manager.on_ousted(ousted)
    etcd.hooks.append(see)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(manager.campaign)
            terms.append(await manager.wait_elected())
            await anyio.sleep(1)
            renewals = manager.statistics().renewals
            begin.set()
            if way is not fail:
                await way(manager, group)
            await until(lambda: not etcd.keys())
            assert manager.statistics().renewals > renewals
            group.cancel_scope.cancel()
    except* Boom:
        assert way is fail
    assert order[:5] == ["cancelled, valid: False, ELECTED", "joined", "ousted, OUSTED", "ousted returned", "revoked"]
    assert [term.loss_reason for term in terms] == [WAYS[way]]
    assert manager.status is LeaderStatus.OUSTED
    assert not etcd.leases()


@pytest.mark.parametrize("gone", ["frozen", "down"])
async def test_stop_is_bounded_if_etcd_does_not_respond(etcd: FakeEtcd, clock: VirtualClock, gone: str) -> None:
    manager = make(etcd, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await manager.wait_elected()
        if gone == "frozen":
            etcd.members[0].freeze()
        else:
            etcd.stop()
        before = anyio.current_time()
        await manager.stop()
        assert anyio.current_time() - before <= CONFIG.retry + 0.01


@pytest.mark.parametrize("gone", [False, True])
async def test_a_candidate_that_waits_stops_at_once_and_leaves_nothing(
    etcd: FakeEtcd, clock: VirtualClock, gone: bool
) -> None:
    first, second = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with anyio.create_task_group() as group:
        await group.start(first.campaign)
        await group.start(second.campaign)
        if gone:
            etcd.members[0].freeze()
        before = anyio.current_time()
        await second.stop()
        assert anyio.current_time() - before <= (CONFIG.retry + 0.01 if gone else 0.01)
        assert second.status is LeaderStatus.INIT
        if not gone:
            assert len(etcd.keys()) == len(etcd.leases()) == 1
        group.cancel_scope.cancel()


async def test_stop_ends_a_campaign_that_never_received_a_response(etcd: FakeEtcd, clock: VirtualClock) -> None:
    etcd.stop()
    manager = make(etcd, clock)
    errors: list[object] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await anyio.sleep(100)
        assert len(errors) == 1, "once per kind per outage"
        assert manager.statistics().etcd_errors >= 100
        assert etcd.calls["lease_grant"] < 300, "no busy loop"
        before = anyio.current_time()
        await manager.stop()
        assert anyio.current_time() - before <= CONFIG.retry + 0.01


async def test_the_next_term_begins_only_when_the_last_ones_work_has_ended(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A lost lease stays lost, but the work of two terms never runs at once in one manager."""
    manager = make(etcd, clock)
    running: list[int] = []
    overlaps: list[object] = []

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        overlaps.extend(running)
        running.append(term.token)
        try:
            await work_until_cancelled(3)
        finally:
            running.remove(term.token)

    async with manager:
        for _ in range(5):
            term = await manager.wait_elected()
            await anyio.sleep(1)
            etcd.revoke(term.lease_id)
            await until(lambda: term.loss_reason is not None)  # noqa: B023 - awaited in this iteration
    assert overlaps == []
    assert manager.statistics().terms >= 5


async def test_a_resigned_leader_rejoins_at_the_back_after_retry(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    async with manager:
        first = await manager.wait_elected()
        await manager.resign()
        assert not etcd.keys()
        resigned_at = anyio.current_time()
        second = await manager.wait_elected()
        assert anyio.current_time() - resigned_at == pytest.approx(CONFIG.retry, abs=0.01)
        assert (second.key, second.lease_id) != (first.key, first.lease_id)


async def test_a_body_that_swallows_cancellation_keeps_leadership_for_one_lease_and_is_then_reported(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rules 6 and 7: the lease is renewed for at most one more lease. Then it expires, and nothing is released."""
    manager = make(etcd, clock)
    errors: list[Any] = []
    manager.on_error(lambda manager, error: errors.append(error))

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5 * CONFIG.lease)

    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        term = await manager.wait_elected()
        await anyio.sleep(0.5)
        stopped_at = anyio.current_time()
        group.start_soon(manager.stop)
        await until(lambda: not etcd.keys())
        held = anyio.current_time() - stopped_at
        assert CONFIG.lease - 0.01 <= held <= 2 * CONFIG.lease + 1
        assert etcd.calls["lease_revoke"] == 0
        assert manager.statistics().overruns == 1
        assert any("still runs past the end" in record.message for record in caplog.records)
        assert any("still runs" in str(error) for error in errors)
        assert term.loss_reason is LossReason.STOPPED


@pytest.mark.parametrize("steps", range(12))
async def test_a_stop_at_the_moment_of_the_election_ends_the_campaign(
    etcd: FakeEtcd, clock: VirtualClock, steps: int
) -> None:
    """It is too late to interrupt the wait for first place, and no term exists yet."""
    etcd.put(f"{ELECTION}/by-hand", "the leader")
    manager = make(etcd, clock)
    async with manager:
        await until(lambda: manager.statistics().queue_position == 1)
        await anyio.sleep(0.5)
        etcd.delete(f"{ELECTION}/by-hand")
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        with anyio.fail_after(CONFIG.retry):
            await manager.stop()
        assert not etcd.keys()
        assert not etcd.leases()


async def test_an_error_callback_that_hangs_delays_the_end_by_retry_at_most(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    called = anyio.Event()

    @manager.on_error
    async def hang(manager: object, error: object) -> None:
        called.set()
        await anyio.sleep_forever()

    client.fail("lease_grant", EtcdUnavailableError("for a moment"))
    with anyio.fail_after(CONFIG.lease):
        async with manager:
            await called.wait()
            await manager.wait_elected()
            asked_at = anyio.current_time()
            await manager.stop()
            assert anyio.current_time() - asked_at <= CONFIG.retry + 0.1
    assert not etcd.leases()


async def test_an_error_callback_that_raises_ends_the_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    manager = make(client, clock)
    terms: list[Term] = []
    manager.on_elected(lambda manager, term: terms.append(term))

    @manager.on_error
    def fail(manager: object, error: object) -> None:
        raise Boom

    async def cut_off() -> None:
        await manager.wait_elected()
        client.fail("lease_keep_alive", EtcdUnavailableError("for a moment"))

    async with anyio.create_task_group() as group:
        group.start_soon(cut_off)
        with anyio.fail_after(CONFIG.lease), pytest.raises(Boom):
            await manager.campaign()
    assert [term.loss_reason for term in terms] == [LossReason.FAILED]
    assert not etcd.leases()


async def test_work_that_returns_after_its_term_runs_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """``while term.is_valid()`` ends like this. The next term does the work again."""
    manager = make(etcd, clock)

    async def work(term: Term) -> int:
        if manager.statistics().terms == 1:
            clock.advance(CONFIG.lease)
        return term.token

    tokens: list[int] = []
    manager.on_elected(lambda manager, term: tokens.append(term.token))
    with anyio.fail_after(2 * CONFIG.lease):
        assert await manager.run(work) == tokens[1]
    assert manager.statistics().losses == {LossReason.EXPIRED: 1, LossReason.RESIGNED: 1}


async def test_a_leading_block_that_ends_after_its_term_raises_leadership_lost(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """No task in it could be cancelled."""
    manager = make(etcd, clock)
    async with manager:
        with pytest.raises(LeadershipLostError) as caught:
            async with manager.leading():
                clock.advance(CONFIG.lease)
        assert caught.value.term.loss_reason is LossReason.EXPIRED
