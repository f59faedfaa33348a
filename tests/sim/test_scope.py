"""A term's scope, and the campaign around it: what begins and ends when, and the order of callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import anyio
import pytest

from etcdleader import (
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdUnavailableError,
    LeaderManager,
    LeadershipLostError,
    LeaderStatus,
    LossReason,
    NotLeaderError,
    Term,
)
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.helpers.virtual_run import run_virtually
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """An error of the user's code."""


# Rule 5: the scope


async def test_the_ticker_cancels_the_work_although_the_loops_clock_did_not_advance(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """In suspend this happens. The scope's own deadline would come ten seconds late."""
    manager = make(etcd, clock)
    cancelled_at: list[float] = []

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled_at.append(anyio.current_time())

    async with manager:
        await manager.wait_elected()
        await anyio.sleep(1)
        woke_at = anyio.current_time()
        clock.advance(CONFIG.lease)
        await until(lambda: cancelled_at)
        assert cancelled_at[0] - woke_at <= CONFIG.margin / 2


@pytest.mark.parametrize("place", ["on_elected", "leading"])
async def test_the_loops_deadline_cancels_the_work_if_the_ticker_does_not_run(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    """The deadline is a backstop: a quarter of a margin after the lease's deadline, before leadership can change."""
    manager = make(etcd, clock)
    ends: list[float] = []

    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            assert not term.is_valid()
            ends.append(anyio.current_time())

    if place == "on_elected":
        manager.on_elected(work)
    async with manager:
        term = await manager.wait_elected()
        won_at = anyio.current_time()
        (connection,) = connections._pool.values()
        assert manager._elector is not None
        assert manager._elector.session is not None
        connection.renewer.discard(manager._elector.session)
        if place == "leading":
            with pytest.raises(LeadershipLostError):
                async with manager.leading():
                    await work(manager, term)
        await until(lambda: ends)
        await until(lambda: term.loss_reason is not None)
    assert ends == pytest.approx([won_at + CONFIG.lease - 0.75 * CONFIG.margin], abs=0.01)
    assert term.loss_reason is LossReason.EXPIRED


async def test_on_ousted_is_called_once_per_term_after_the_work_and_before_the_release(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """This holds whatever ends the term, and with work in three places."""
    manager = make(etcd, clock)
    at_work: list[object] = []
    ousted: list[Term] = []
    problems: list[str] = []

    async def work(*arguments: object) -> None:
        at_work.append(arguments)
        try:
            await work_until_cancelled(0.3)
        finally:
            at_work.remove(arguments)

    async def lead() -> None:
        while True:
            try:
                async with manager.leading() as term:
                    await work("leading", term)
            except NotLeaderError:
                await anyio.sleep(0.01)

    @manager.on_ousted
    async def check(manager: LeaderManager, term: Term) -> None:
        if at_work:
            problems.append(f"called while {at_work} worked")
        if manager.status is not LeaderStatus.OUSTED:
            problems.append("called before the status")
        if etcd.keys().get(term.key.encode()) is None and term.loss_reason in (LossReason.RESIGNED, LossReason.STOPPED):
            problems.append("called after the release")
        ousted.append(term)

    manager.on_elected(work)
    elected: list[Term] = []
    manager.on_elected(lambda manager, term: elected.append(term))
    async with anyio.create_task_group() as group:
        group.start_soon(lead)
        group.start_soon(manager.run, work)
        for number, end in enumerate(("delete", "operator", "revoke", "resign", "stop")):
            await until(lambda: len(elected) == number + 1)  # noqa: B023 - awaited in this iteration
            await anyio.sleep(0.5)
            term = elected[-1]
            if end == "delete":
                etcd.delete(term.key)
            elif end == "operator":
                etcd.request_step_down(term.key)
            elif end == "revoke":
                etcd.revoke(term.lease_id)
            else:
                await getattr(manager, end)()
            await until(lambda: not etcd.keys())
        await anyio.sleep(CONFIG.lease)
        group.cancel_scope.cancel()
    assert problems == []
    assert ousted == elected


async def test_no_new_candidacy_begins_before_the_old_one_is_closed(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """This holds even if the release, the work or on_ousted takes long."""
    client = etcd.client()
    client.latency = 0.1
    manager = make(client, clock)
    order: list[str] = []

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await work_until_cancelled(1)
        finally:
            order.append("work ended")

    manager.on_ousted(lambda manager, term: order.append("ousted"))

    def see(call: Call) -> None:
        if call.kind in ("lease_grant", "lease_revoke") and call.stage == "before":
            order.append(call.kind)

    etcd.hooks.append(see)
    async with manager:
        for end in ("revoke", "delete"):
            term = await manager.wait_elected()
            await anyio.sleep(1)
            if end == "revoke":
                etcd.revoke(term.lease_id)
            else:
                etcd.delete(term.key)
            await until(lambda: not term.is_valid())  # noqa: B023 - awaited in this iteration
        await manager.wait_elected()
    assert order == ["lease_grant", "work ended", "ousted", "lease_revoke"] * 3


# The campaign


async def test_tg_start_waits_while_etcd_is_down_and_returns_in_the_queue(etcd: FakeEtcd, clock: VirtualClock) -> None:
    first, second = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with anyio.create_task_group() as group:
        await group.start(first.campaign)
        etcd.stop()
        with anyio.move_on_after(20) as patience:
            await group.start(second.campaign)
        assert patience.cancelled_caught
        etcd.start()
        await group.start(second.campaign)
        assert [record.identity for record in await second.candidates()] == [first.identity, second.identity]
        assert not second.is_leader()
        group.cancel_scope.cancel()


async def test_a_second_campaign_is_refused_at_once_and_does_not_affect_the_first(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)

    async def enter() -> None:
        async with manager:
            raise AssertionError

    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        term = await manager.wait_elected()
        for again in (manager.campaign(), manager.run(lambda term: anyio.sleep_forever()), enter()):
            with pytest.raises(anyio.BusyResourceError, match=f"^{manager.identity} is campaigning for 'jobs' already"):
                await again
        assert term.is_valid()
        assert manager.statistics().terms == 1
        await manager.stop()
    assert len(etcd.history) == 2, "one put, one revocation"
    async with manager:
        assert (await manager.wait_elected()).token > term.token


async def test_a_waiter_on_a_campaign_that_fails_gets_the_error(etcd: FakeEtcd, clock: VirtualClock) -> None:
    leader, manager = make(etcd, clock, "a"), make(etcd, clock, "b")
    causes: list[object] = []

    async def wait(how: Callable[[], Any]) -> None:
        with pytest.raises(NotLeaderError) as caught:
            await how()
        causes.append(caught.value.__cause__)

    async def lead() -> None:
        async with manager.leading():
            raise AssertionError

    @manager.on_error
    def fail(manager: LeaderManager, error: Exception) -> None:
        raise Boom

    async with leader:
        await leader.wait_elected()
        async with anyio.create_task_group() as group:
            group.start_soon(wait, manager.wait_elected)
            group.start_soon(wait, lead)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(_break_soon, etcd)
            with pytest.raises(Boom):
                await manager.campaign()
    assert [type(cause) for cause in causes] == [Boom, Boom]


async def _break_soon(etcd: FakeEtcd) -> None:
    await anyio.sleep(1)
    etcd.stop()
    await anyio.sleep(0.1)
    etcd.start()


async def test_a_stopped_manager_campaigns_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    keys: set[str] = set()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            await group.start(manager.campaign)
            keys.add((await manager.wait_elected()).key)
            group.start_soon(manager.stop)
            await manager.stop()
            assert not etcd.leases()
    assert len(keys) == 5


LOOPS: tuple[Literal["asyncio", "trio"], ...] = ("asyncio", "trio")


@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_a_manager_campaigns_on_one_loop_after_another(
    first: Literal["asyncio", "trio"], second: Literal["asyncio", "trio"], waited: bool
) -> None:
    """This holds even if a caller waited without success, for a while, before each campaign began."""
    managers: list[EtcdLeaderManager] = []
    tokens: list[int] = []

    async def main() -> None:
        async with FakeEtcd() as etcd:
            managers.append(managers[0] if managers else make(etcd, lambda: 0.0))
            manager = managers[0]
            manager._client = etcd  # the fake belongs to its loop, the manager to none
            if waited:
                with anyio.move_on_after(CONFIG.retry / 2):
                    await manager.wait_elected()
            async with manager:
                tokens.append((await manager.wait_elected()).token)
            if waited:
                with anyio.move_on_after(CONFIG.retry / 2):
                    await manager.wait_elected()

    for name in (first, second):
        run_virtually(main, name)
    assert tokens == [2, 2]


# extend


async def test_extend_is_confirmed_by_a_proposal_and_a_read_and_moves_the_deadline(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(0.75 * CONFIG.renew)
        before = etcd.calls["lease_keep_alive"], etcd.calls["txn"]
        assert await manager.extend(term) is term
        assert (etcd.calls["lease_keep_alive"], etcd.calls["txn"]) == (before[0] + 1, before[1] + 2)
        assert term.remaining() == pytest.approx(CONFIG.lease - CONFIG.margin)


async def test_extend_without_a_term_or_with_another_one_fails_with_no_request(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager, other = make(etcd, clock, "a"), make(etcd, clock, "b", election="others")
    with pytest.raises(NotLeaderError):
        await manager.extend()
    async with manager, other:
        first = await manager.wait_elected()
        foreign = await other.wait_elected()
        await manager.resign()
        with pytest.raises(NotLeaderError):
            await manager.extend()
        await manager.wait_elected()
        before = etcd.calls["lease_keep_alive"]
        for wrong in (first, foreign):
            with pytest.raises(LeadershipLostError) as caught:
                await manager.extend(wrong)
            assert caught.value.term is wrong
        assert etcd.calls["lease_keep_alive"] == before


@pytest.mark.parametrize("trouble", ["frozen", "down", "refusing", "partitioned"])
async def test_extend_fails_within_retry_and_the_term_continues(
    etcd: FakeEtcd, clock: VirtualClock, trouble: str
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(1)
        if trouble == "frozen":
            etcd.members[0].freeze()
        elif trouble == "down":
            etcd.stop()
        elif trouble == "refusing":
            client.refuse("lease_keep_alive", times=2)
        else:
            client.partition()
        asked_at = anyio.current_time()
        with pytest.raises(EtcdRefusedError if trouble == "refusing" else EtcdUnavailableError):
            await manager.extend(term)
        assert anyio.current_time() - asked_at <= CONFIG.retry
        assert term.is_valid()
        client.heal()
        etcd.start()
        assert await manager.extend(term) is term


async def test_extend_raises_if_the_key_no_longer_exists(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """This holds even if the watch has delivered nothing."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        await anyio.sleep(0.5)
        client.stall_watches()
        etcd.delete(term.key)
        assert term.is_valid()
        with pytest.raises(LeadershipLostError):
            await manager.extend()
        assert term.loss_reason is LossReason.DELETED
