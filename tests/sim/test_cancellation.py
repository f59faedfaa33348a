"""A campaign cancelled or stopped at any moment leaves no key and no lease, and every term is completed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etcdleader import EtcdLeaderManager, LeaderManager, LeaderStatus, Term
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock, virtual_backend
from tests.grpc.interrupts import unprotected_lines
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

STEPS = 80
"""More steps than any of these scenarios takes; each scenario checks that."""


class Boom(Exception):
    """An error of the user's code."""


class Books:
    """Records that each term began and ended once."""

    def __init__(self, manager: EtcdLeaderManager) -> None:
        self.manager = manager
        self.begun: list[Term] = []
        self.at_work: list[Term] = []
        self.ended: list[Term] = []
        manager.on_elected(self._work)
        manager.on_ousted(self._ousted)

    async def _work(self, manager: LeaderManager, term: Term) -> None:
        assert self.at_work == []
        self.begun.append(term)
        self.at_work.append(term)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await steps(3)
            self.at_work.remove(term)

    async def _ousted(self, manager: LeaderManager, term: Term) -> None:
        assert self.at_work == []
        await steps(3)  # no cancellation interrupts this
        self.ended.append(term)

    def check(self) -> None:
        numbers = self.manager.statistics()
        assert self.at_work == []
        assert self.manager.term is None
        assert not self.manager.is_leader()
        assert numbers.terms == len(self.ended) == sum(numbers.losses.values())
        assert set(self.begun) <= set(self.ended), "a callback may be cancelled before its first step"
        assert all(term.loss_reason is not None for term in self.ended)
        assert self.manager.status is (LeaderStatus.OUSTED if numbers.terms else LeaderStatus.INIT)
        assert numbers.queue_position is None


async def run(manager: EtcdLeaderManager) -> None:
    await manager.run(lambda term: anyio.sleep_forever())


async def enter(manager: EtcdLeaderManager) -> None:
    async with manager:
        await anyio.sleep_forever()


ENTRIES: dict[str, Callable[[EtcdLeaderManager], Coroutine[Any, Any, None]]] = {
    "campaign": lambda manager: manager.campaign(),
    "run": run,
    "async with": enter,
}


async def steps(count: int) -> None:
    """Let all tasks take this many steps, without time passing."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def check_gone(etcd: FakeEtcd, *managers: EtcdLeaderManager) -> None:
    """Check that these candidates left nothing.

    A request that was in flight may leave a lease until its TTL is over.
    """
    names = {manager.identity.encode() for manager in managers}
    assert [kv for kv in etcd.keys().values() if kv.value in names] == []
    await anyio.sleep(CONFIG.lease + 1)
    assert [kv for kv in etcd.keys().values() if kv.value in names] == []


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_lone_candidate_cancelled_after_any_number_of_steps_leaves_nothing(
    anyio_backend: object, clock: VirtualClock, entry: str
) -> None:
    won = []
    for count in range(STEPS):
        async with FakeEtcd() as etcd:
            manager = make(etcd, clock)
            books = Books(manager)
            async with anyio.create_task_group() as group:
                group.start_soon(ENTRIES[entry], manager)
                await steps(count)
                won.append(manager.is_leader())
                group.cancel_scope.cancel()
            books.check()
            assert connections._pool == {}
            await check_gone(etcd, manager)
            assert not etcd.leases()
    assert won[0] is False
    assert all(won[-STEPS // 4 :]), "the scenario runs to its end"


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_waiting_candidate_cancelled_after_any_number_of_steps_leaves_nothing(
    etcd: FakeEtcd, clock: VirtualClock, entry: str
) -> None:
    """The steps lead from joining behind a leader to waiting, and from the leader's release to leading."""
    queued: list[bool] = []
    won: list[bool] = []
    for leaves in (False, True):
        for count in range(STEPS):
            leader, manager = make(etcd, clock, "a"), make(etcd, clock, "b")
            books = Books(manager)
            async with leader:
                await leader.wait_elected()
                async with anyio.create_task_group() as group:
                    group.start_soon(ENTRIES[entry], manager)
                    if leaves:
                        await until(lambda: len(etcd.keys()) == 2)
                        group.start_soon(leader.stop)
                    await steps(count)
                    (won if leaves else queued).append(manager.is_leader() if leaves else len(etcd.keys()) == 2)
                    group.cancel_scope.cancel()
                books.check()
                assert len(etcd.leases()) == (not leaves or leader.is_leader())
                await leader.stop()
            await check_gone(etcd, manager, leader)
    for story in (queued, won):
        assert story[0] is False
        assert all(story[-STEPS // 4 :]), "the scenario runs to its end"


@pytest.mark.parametrize("way", ["stop", "resign"])
async def test_a_campaign_cancelled_after_any_number_of_steps_of_its_end_leaves_nothing(
    etcd: FakeEtcd, clock: VirtualClock, way: str
) -> None:
    over = []
    for count in range(STEPS):
        manager = make(etcd, clock)
        books = Books(manager)
        async with anyio.create_task_group() as group:
            group.start_soon(manager.campaign)
            await manager.wait_elected()
            await steps(5)
            group.start_soon(getattr(manager, way))
            await steps(count)
            over.append(not etcd.keys())
            group.cancel_scope.cancel()
        books.check()
        await check_gone(etcd, manager)
        assert not etcd.leases()
    assert over[0] is False
    assert all(over[-STEPS // 4 :]), "the scenario runs to its end"


async def test_a_campaign_cancelled_while_messages_are_in_flight_leaves_nothing_beyond_the_lease(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """In the network a request that was sent cannot be cancelled."""
    first, client = etcd.client("a"), etcd.client("b")
    client.latency = 0.1
    for moment in range(0, 300, 3):
        leader, manager = make(first, clock), make(client, clock)
        books = Books(manager)
        async with anyio.create_task_group() as group:
            group.start_soon(leader.campaign)
            await leader.wait_elected()
            with anyio.move_on_after(moment / 100):
                async with anyio.create_task_group() as inner:
                    inner.start_soon(manager.campaign)
                    await anyio.sleep(0.85)
                    await leader.stop()
                    await anyio.sleep_forever()
            books.check()
            group.cancel_scope.cancel()
        await anyio.sleep(CONFIG.lease + 1)
        assert not etcd.keys()
        assert not etcd.leases()


@pytest.mark.parametrize("anyio_backend", [pytest.param(virtual_backend("asyncio"), id="virtual-asyncio")])
async def test_a_tasks_own_cancellation_releases_leadership_too(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """`task.cancel()`, `asyncio.wait_for` and Ctrl-C on asyncio ignore cancel scopes."""
    for count in range(STEPS):
        manager = make(etcd, clock)
        books = Books(manager)
        task = asyncio.create_task(manager.campaign())
        await steps(count)
        task.cancel()
        await steps(count % 7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        books.check()
        assert not etcd.keys()
    manager = make(etcd, clock)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(manager.campaign(), 5)
    assert manager.statistics().terms == 1
    assert not etcd.leases()


@pytest.mark.parametrize("entry", ["campaign", "run", "async with"])
async def test_an_exception_of_on_ousted_is_not_lost_in_a_cancellation(
    etcd: FakeEtcd, clock: VirtualClock, entry: str
) -> None:
    manager = make(etcd, clock)

    @manager.on_ousted
    async def fail(manager: LeaderManager, term: Term) -> None:
        raise Boom

    with pytest.raises(Boom):
        with anyio.move_on_after(1):
            await ENTRIES[entry](manager)
    assert not etcd.leases()


@pytest.mark.parametrize("anyio_backend", [pytest.param(virtual_backend("asyncio"), id="virtual-asyncio")])
@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_failure_replaces_the_cancellation_of_an_asyncio_task_which_is_then_not_cancelled(
    etcd: FakeEtcd, clock: VirtualClock, entry: str
) -> None:
    """If `Task.cancelled()` were True, the task would have no exception, and the failure would be lost."""
    manager = make(etcd, clock)

    @manager.on_ousted
    def fail(manager: LeaderManager, term: Term) -> None:
        raise Boom

    task = asyncio.create_task(ENTRIES[entry](manager))
    await manager.wait_elected()
    task.cancel()
    with pytest.raises(Boom):
        await task
    assert not task.cancelled()
    assert not etcd.leases()
    with pytest.raises(Boom):
        await asyncio.wait_for(ENTRIES[entry](manager), 5)
    assert not etcd.leases()


async def test_a_campaign_that_fails_around_a_leading_block_is_raised_as_itself(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The block is cancelled because leadership was lost. That results from the failure, and is no second failure."""
    manager = make(etcd, clock)

    @manager.on_elected
    async def fail(manager: LeaderManager, term: Term) -> None:
        await anyio.sleep(1)
        raise Boom

    with pytest.raises(Boom):
        async with manager, manager.leading():
            await anyio.sleep_forever()
    assert not etcd.leases()


@pytest.mark.parametrize("anyio_backend", [pytest.param(virtual_backend("trio"), id="virtual-trio")])
async def test_ctrl_c_on_trio_cannot_strike_in_a_task_of_ours(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """trio raises it in whatever code runs. In a system task it would be an "internal error in Trio"."""
    manager = make(etcd, clock)
    with unprotected_lines() as lines:
        async with manager:
            term = await manager.wait_elected()
            await anyio.sleep(CONFIG.renew + 1)
            etcd.delete(term.key)
            await manager.wait_elected()
            etcd.change_leader()
            await anyio.sleep(CONFIG.lease)
        await anyio.sleep(CONFIG.retry)
    assert not lines
    assert manager.statistics().renewals


# stop(): its calls to etcd take at most `retry` in total

GONE: dict[str, Callable[[FakeEtcd], object]] = {
    "frozen": lambda etcd: etcd.members[0].freeze(),
    "down": lambda etcd: etcd.stop(),
    "refusing": lambda etcd: None,
    "without a leader": lambda etcd: etcd.lose_leader(),
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("stage", ["granting", "joining", "waiting", "leading", "renewing", "draining", "releasing"])
async def test_stop_waits_for_etcd_at_most_retry_whenever_etcd_fails(
    etcd: FakeEtcd, clock: VirtualClock, stage: str, gone: str
) -> None:
    client = etcd.client()
    manager, leader = make(client, clock), make(etcd, clock, "b")
    cleanup = 0.7

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        await work_until_cancelled(cleanup)

    def go() -> None:
        GONE[gone](etcd)
        if gone == "refusing":
            client.refuse(times=1e9)

    async with anyio.create_task_group() as group:
        if stage == "waiting":
            await group.start(leader.campaign)
        if stage == "granting":
            go()
        elif stage == "joining":
            etcd.hooks.append(lambda call: go() if call.kind == "txn" and call.stage == "before" else None)
        group.start_soon(manager.campaign)
        if stage in ("granting", "joining"):
            await anyio.sleep(0.3)
        elif stage == "waiting":
            await until(lambda: len(etcd.keys()) == 2)
            go()
        else:
            await manager.wait_elected()
            await anyio.sleep(CONFIG.renew if stage == "renewing" else 0.5)
        led = manager.is_leader()
        if stage in ("leading", "renewing"):
            go()
        asked_at = anyio.current_time()
        group.start_soon(manager.stop)
        if stage == "draining":
            await anyio.sleep(cleanup / 2)
            go()
        elif stage == "releasing":
            etcd.hooks.append(lambda call: go() if call.kind == "lease_revoke" else None)
        await manager.stop()
        assert anyio.current_time() - asked_at <= CONFIG.retry + (cleanup if led else 0) + 0.01
        assert not manager.is_leader()
        group.cancel_scope.cancel()
