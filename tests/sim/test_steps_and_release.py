"""Whatever asks for the release of leadership waits for the steps that run: for one more lease at most."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from etcdleader import (
    EtcdLeaderError,
    EtcdLeaderManager,
    LeaderManager,
    LeaderStatus,
    LossReason,
    Term,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.threads import group_of_threads, threads_have
from tests.sim.stepping import PLACES, Steps, step_of
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """Of the user."""


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def campaign(manager: EtcdLeaderManager, scope: anyio.CancelScope, ended: list[object]) -> None:
    with scope:
        try:
            await manager.campaign()
        except Boom as error:
            ended.append(error)
        else:
            ended.append(None)


WAYS: dict[str, Callable[[EtcdLeaderManager, anyio.CancelScope, FakeEtcd], Any]] = {
    "stop": lambda manager, scope, etcd: manager.stop(),
    "resign": lambda manager, scope, etcd: manager.resign(),
    "cancellation": lambda manager, scope, etcd: scope.cancel(),
    "failure": lambda manager, scope, etcd: manager.failing.set(),  # type: ignore[attr-defined]
    "step-down": lambda manager, scope, etcd: etcd.put(next(iter(etcd.keys())), ignore_value=True, ignore_lease=True),
}
"""All but the loss. The last one is the request of ``etcdleader step-down``."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
async def test_leadership_is_not_released_while_a_step_runs(
    etcd: FakeEtcd, clock: VirtualClock, steps: Steps, way: str, place: str
) -> None:
    """Neither is the term marked nor its work cancelled: whatever asks for the release waits for the step."""
    manager, second = make(etcd, clock), make(etcd, clock, "b")
    step, scope, ended, work = steps(manager), anyio.CancelScope(), list[object](), list[str]()
    manager.failing = anyio.Event()  # type: ignore[attr-defined]

    @manager.on_elected
    async def fail(manager: LeaderManager, term: Term) -> None:
        await manager.failing.wait()  # type: ignore[attr-defined]
        raise Boom

    @manager.on_elected
    async def serve(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            work.append("cancelled")

    async def leave() -> None:
        asked = WAYS[way](manager, scope, etcd)
        if inspect.isawaitable(asked):
            await asked
            left.append(step.ended.is_set())

    left: list[bool] = []
    async with group_of_threads(steps.end) as group:
        group.start_soon(campaign, manager, scope, ended)
        term = await manager.wait_elected()
        await group.start(second.campaign)
        if place == "thread":
            group.start_soon(anyio.to_thread.run_sync, step.in_a_thread)
            await threads_have(step.begun.is_set)
        else:
            group.start_soon(step.on_the_loop)
            await until(step.begun.is_set)
        assert step.term is term
        group.start_soon(leave)
        await anyio.sleep(CONFIG.lease * 0.8)
        assert term.is_valid()
        assert manager.is_leader()
        assert manager.status is LeaderStatus.ELECTED
        assert not second.is_leader()
        assert work == []
        assert await step_of(manager) == [None] * 3, "a step that begins after the request"
        step.may_end.set()
        await threads_have(step.ended.is_set) if place == "thread" else await until(step.ended.is_set)
        await until(second.is_leader, timeout=CONFIG.retry)
        assert work == ["cancelled"]
        await manager.stop()
        await second.stop()
    reasons = {"stop": "STOPPED", "cancellation": "STOPPED", "failure": "FAILED"}
    assert term.loss_reason is LossReason[reasons.get(way, "RESIGNED")]
    assert left == ([True] if way in ("stop", "resign") else [])
    assert [type(one) for one in ended] == (
        [Boom] if way == "failure" else [] if way == "cancellation" else [type(None)]
    )
    assert not etcd.leases()


async def test_leadership_is_released_after_the_last_of_several_steps(
    etcd: FakeEtcd, clock: VirtualClock, steps: Steps
) -> None:
    async with leading(etcd, clock) as (manager, term), group_of_threads(steps.end) as group:
        first, last = steps(manager), steps(manager)
        for step in first, last:
            group.start_soon(anyio.to_thread.run_sync, step.in_a_thread)
        await threads_have(lambda: first.begun.is_set() and last.begun.is_set())
        group.start_soon(manager.resign)
        first.may_end.set()
        await threads_have(first.ended.is_set)
        await anyio.sleep(1)
        assert term.is_valid()
        last.may_end.set()
        await threads_have(lambda: not term.is_valid())


async def test_when_its_work_returns_a_step_elsewhere_still_holds_leadership(
    etcd: FakeEtcd, clock: VirtualClock, steps: Steps
) -> None:
    manager, results = make(etcd, clock), list[str | None]()
    step = steps(manager)

    async def work(term: Term) -> str:
        await until(step.begun.is_set)
        return "done"

    async def run() -> None:
        results.append(await manager.run(work))

    async with group_of_threads(steps.end) as group:
        group.start_soon(run)
        term = await manager.wait_elected()
        group.start_soon(anyio.to_thread.run_sync, step.in_a_thread)
        await threads_have(step.begun.is_set)
        await anyio.sleep(1)
        assert term.is_valid()
        assert results == []
        step.may_end.set()
    assert results == ["done"]


@pytest.mark.parametrize("way", ["stop", "resign"])
@pytest.mark.parametrize("extends", [False, True])
async def test_a_step_that_does_not_end_holds_leadership_for_one_more_lease(
    etcd: FakeEtcd, clock: VirtualClock, steps: Steps, way: str, extends: bool
) -> None:
    """Then the term is over by the clock, the step is an overrun, and nothing is released under it."""
    manager, second = make(etcd, clock), make(etcd, clock, "b")
    step, scope, revoked = steps(manager), anyio.CancelScope(), list[int]()

    async def extend() -> None:
        while extends and manager.is_leader():
            with suppress(EtcdLeaderError):  # when it is no longer renewed
                await manager.extend()
            await anyio.sleep(0.5)

    async with group_of_threads(steps.end) as group:
        group.start_soon(campaign, manager, scope, [])
        term = await manager.wait_elected()
        await group.start(second.campaign)
        group.start_soon(step.on_the_loop)
        await until(step.begun.is_set)
        await anyio.sleep(3)
        asked_at = anyio.current_time()
        group.start_soon(getattr(manager, way))
        group.start_soon(extend)
        await until(lambda: not term.is_valid())
        assert 2 * CONFIG.lease - CONFIG.renew - CONFIG.margin <= anyio.current_time() - asked_at <= 2 * CONFIG.lease
        await until(lambda: manager.statistics().overruns)
        revoked.append(etcd.calls["lease_revoke"])
        await second.wait_elected()
        assert manager.status is LeaderStatus.ELECTED
        step.may_end.set()
        await until(lambda: manager.status is LeaderStatus.OUSTED)
        await manager.stop()
        await second.stop()
    assert revoked == [0]
    assert term.loss_reason is LossReason.EXPIRED
    assert manager.statistics().overruns == 1


@pytest.mark.parametrize("place", PLACES)
async def test_a_loss_ends_the_term_at_once_and_the_next_candidacy_begins_after_the_step(
    etcd: FakeEtcd, clock: VirtualClock, steps: Steps, place: str
) -> None:
    ousted: list[bool] = []
    async with leading(etcd, clock) as (manager, term), group_of_threads(steps.end) as group:
        step = steps(manager)
        manager.on_ousted(lambda manager, term: ousted.append(step.ended.is_set()))
        if place == "thread":
            group.start_soon(anyio.to_thread.run_sync, step.in_a_thread)
            await threads_have(step.begun.is_set)
        else:
            group.start_soon(step.on_the_loop)
            await until(step.begun.is_set)
        etcd.delete(term.key.encode())
        await until(lambda: not term.is_valid(), timeout=1)
        assert term.loss_reason is LossReason.DELETED
        await anyio.sleep(CONFIG.lease)
        assert ousted == []
        assert not etcd.keys()
        assert await step_of(manager) == [None] * 3
        step.may_end.set()
        await threads_have(step.ended.is_set) if place == "thread" else await until(step.ended.is_set)
        await until(manager.is_leader)
        assert ousted == [True]
        assert manager.statistics().terms == 2
