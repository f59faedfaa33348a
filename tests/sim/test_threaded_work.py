"""Plain functions as work: each runs in a separate thread, and is joined like a coroutine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from etcdleader import EtcdLeaderManager, LeadershipLostError, LeaderStatus, LossReason, NoopLeaderManager, Term
from etcdleader._runtime.threads import run_joined
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.threads import group_of_threads, threads_have
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

AT_ONCE_BY_DEFAULT = 40
"""The limit on threads that anyio shares among all callers of a loop."""
FOR_SLOW_THREADS = 1e6
"""Virtual seconds. While only a thread runs, each real second lets an hour of them pass."""


class Boom(Exception):
    """Of the user."""


class Threaded:
    """Work in a thread, which ends at a signal: by default as soon as its term is over."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.noticed = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()
        self.terms: list[Term] = []

    def __call__(self, term: Term) -> None:
        self.terms.append(term)
        self.begun.set()
        while term.wait(60):
            """Work goes on."""
        self.noticed.set()
        self.may_end.wait(60)
        self.ended.set()


@pytest.fixture
def work() -> Threaded:
    return Threaded()


async def test_a_plain_function_runs_outside_the_loops_thread_and_its_result_is_returned(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    threads: list[int] = []

    def work(term: Term) -> tuple[int, bool]:
        threads.append(threading.get_ident())
        return term.token, term.is_valid()

    token, was_valid = await make(etcd, clock).run(work) or (0, False)
    assert token > 0
    assert was_valid
    assert threads != [threading.get_ident()]
    assert not etcd.leases()


async def test_an_exception_of_the_thread_ends_the_campaign_after_the_release(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    def work(term: Term) -> None:
        raise Boom

    manager = make(etcd, clock)
    with pytest.raises(Boom):
        await manager.run(work)
    assert not etcd.leases()
    assert manager.statistics().losses == {LossReason.FAILED: 1}


async def test_an_awaitable_that_a_plain_function_returns_is_awaited_on_the_loop(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    async def inner(term: Term) -> int:
        await anyio.sleep(1)
        return threading.get_ident()

    def work(term: Term) -> Awaitable[int]:
        assert threading.get_ident() != loop_thread
        return inner(term)

    loop_thread = threading.get_ident()
    assert await make(etcd, clock).run(work) == loop_thread


async def test_the_thread_has_the_context_of_the_campaign(etcd: FakeEtcd, clock: VirtualClock) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    tenant.set("blue")
    assert await make(etcd, clock).run(lambda term: tenant.get()) == "blue"


WAYS: dict[str, Callable[[EtcdLeaderManager, anyio.CancelScope], Awaitable[None] | None]] = {
    "stop": lambda manager, scope: manager.stop(),
    "resign": lambda manager, scope: manager.resign(),
    "cancellation": lambda manager, scope: scope.cancel(),
}


@pytest.mark.parametrize("way", WAYS)
async def test_leadership_is_not_released_before_the_thread_has_ended(
    etcd: FakeEtcd, clock: VirtualClock, work: Threaded, way: str
) -> None:
    manager, ousted = make(etcd, clock), list[bool]()
    manager.on_ousted(lambda manager, term: ousted.append(work.ended.is_set()))
    scope = anyio.CancelScope()

    async def campaign() -> None:
        with scope:
            await manager.run(work)

    async def leave() -> None:
        if (waiting := WAYS[way](manager, scope)) is not None:
            await waiting

    async with group_of_threads(work.may_end.set) as group:
        group.start_soon(campaign)
        await threads_have(work.begun.is_set)
        group.start_soon(leave)
        await threads_have(work.noticed.is_set)
        (term,) = work.terms
        await anyio.sleep(CONFIG.lease * 0.8)
        assert not term.is_valid()
        assert term.key.encode() in etcd.keys(), "the lease must still be renewed"
        assert manager.status is LeaderStatus.ELECTED
        assert ousted == []
        work.may_end.set()
        await threads_have(lambda: ousted)
        await until(lambda: term.key.encode() not in etcd.keys())
        await manager.stop()
    assert ousted == [True]
    assert not etcd.leases()


@pytest.mark.parametrize("times", [1, 3])
async def test_asyncios_own_cancellation_waits_for_the_thread(
    etcd: FakeEtcd, clock: VirtualClock, work: Threaded, times: int, anyio_backend_name: str
) -> None:
    """It ignores shields, and handlers of a shutdown use it on all tasks."""
    if anyio_backend_name != "asyncio":
        return
    manager = make(etcd, clock)
    try:
        campaign = asyncio.ensure_future(manager.run(work))
        await threads_have(work.begun.is_set)
        for _ in range(times):
            for task in asyncio.all_tasks():
                if task is campaign or task.get_name().startswith(("etcdleader._", "etcdleader renewals")):
                    task.cancel()
            await anyio.sleep(0.05)
        await threads_have(work.noticed.is_set)
        await anyio.sleep(0.5)
        assert etcd.keys()
        assert not campaign.done()
    finally:
        work.may_end.set()
    await threads_have(work.ended.is_set)
    await asyncio.wait([campaign])
    assert not manager.is_leader()


async def test_a_call_that_is_cancelled_before_its_thread_begins_is_not_made(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    if anyio_backend_name != "asyncio":
        return
    handed_over: list[Callable[[], None]] = []
    calls: list[str] = []

    async def run_sync(function: Callable[[], None], **options: Any) -> None:
        handed_over.append(function)
        await asyncio.sleep(60)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)
    task = asyncio.ensure_future(run_joined(lambda: calls.append("made")))
    await until(lambda: handed_over)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    handed_over[0]()
    assert calls == []


async def test_more_leaders_work_in_threads_than_anyio_lets_run_by_default(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Otherwise the 41st would lead and do nothing."""
    count = AT_ONCE_BY_DEFAULT + 1
    works = [Threaded() for _ in range(count)]
    managers = [make(etcd, clock, f"c{number}", election=f"jobs-{number}") for number in range(count)]
    async with anyio.create_task_group() as group:
        for manager, work in zip(managers, works, strict=True):
            work.may_end.set()
            group.start_soon(manager.run, work)
        await threads_have(lambda: all(work.begun.is_set() for work in works))
        group.cancel_scope.cancel()
    assert all(work.ended.is_set() for work in works)


@pytest.mark.parametrize("name", ["stop", "resign"])
async def test_from_its_thread_they_request_the_end_and_return(etcd: FakeEtcd, clock: VirtualClock, name: str) -> None:
    manager = make(etcd, clock)
    returned: list[bool] = []

    def work(term: Term) -> None:
        for _ in range(2):  # the second time in its clean-up
            anyio.from_thread.run(getattr(manager, name))
            returned.append(term.is_valid())
        if manager.statistics().terms == 2:
            anyio.from_thread.run(manager.stop)

    with anyio.fail_after(FOR_SLOW_THREADS):
        await manager.run(work)
    assert returned == [False, False] * (1 if name == "stop" else 2)
    assert not etcd.leases()


async def test_a_loss_reaches_the_thread_and_the_candidate_queues_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager, seen = make(etcd, clock), list[LossReason | None]()
    begun = threading.Event()

    def work(term: Term) -> str:
        if seen:
            return "done"
        begun.set()
        term.wait(60)
        seen.append(term.loss_reason)
        return "too late"

    results: list[str | None] = []

    async def run() -> None:
        results.append(await manager.run(work))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await threads_have(begun.is_set)
        etcd.delete(next(iter(etcd.keys())))
        await threads_have(lambda: seen and manager.status is LeaderStatus.OUSTED)
    assert seen == [LossReason.DELETED]
    assert results == ["done"]


async def test_an_error_that_the_loss_causes_is_no_failure(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager, begun, errors = make(etcd, clock), threading.Event(), list[Exception]()
    manager.on_error(lambda manager, error: errors.append(error))

    def work(term: Term) -> str:
        if begun.is_set():
            return "done"
        begun.set()
        term.wait(60)
        raise LeadershipLostError(term)

    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work)
        await threads_have(begun.is_set)
        etcd.delete(next(iter(etcd.keys())))
        await threads_have(lambda: errors)
    assert [type(error) for error in errors] == [LeadershipLostError]


async def test_a_thread_that_outlives_its_lease_is_an_overrun_and_nothing_is_released(
    etcd: FakeEtcd, clock: VirtualClock, work: Threaded
) -> None:
    manager = make(etcd, clock)
    async with group_of_threads(work.may_end.set) as group:
        group.start_soon(manager.run, work)
        await threads_have(work.begun.is_set)
        group.start_soon(manager.stop)
        await until(lambda: manager.statistics().overruns, timeout=3 * CONFIG.lease)
        assert etcd.calls["lease_revoke"] == 0
        assert not work.ended.is_set()
        work.may_end.set()
    assert work.ended.is_set()
    assert manager.statistics().overruns == 1


async def test_an_election_that_is_off_runs_a_plain_function_in_a_thread_too(work: Threaded) -> None:
    manager = NoopLeaderManager()
    work.may_end.set()
    async with group_of_threads(work.may_end.set) as group:
        group.start_soon(manager.run, work)
        await threads_have(work.begun.is_set)
        assert not work.ended.is_set()
        await manager.stop()
        assert work.ended.is_set()
    assert work.terms[0].loss_reason is LossReason.STOPPED
