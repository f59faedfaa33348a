"""Refused writes and calls of ``extend`` after the end of a term count as a loss, not as a failure."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from etcdleader import (
    EtcdLeaderError,
    EtcdLeaderManager,
    LeadershipLostError,
    LossReason,
    NotLeaderError,
    Term,
)
from etcdleader.fencing import FencedError, Gate
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.late_acts import Act, nothing, provoke, write_in_a_task_of_the_work, write_through_a_gate
from tests.sim.test_work import Boom
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

LATE: dict[str, tuple[Act, type[EtcdLeaderError]]] = {
    "Gate.passing": (write_through_a_gate, FencedError),
    "extend(term)": (lambda manager, term: manager.extend(term), LeadershipLostError),
    "extend()": (lambda manager, term: manager.extend(), NotLeaderError),
    "attach": (lambda manager, term: term.attach("status", "up"), LeadershipLostError),
    "in a group": (write_in_a_task_of_the_work, FencedError),
}


def after_the_end(manager: EtcdLeaderManager, act: Act) -> Callable[..., Awaitable[None]]:
    """Return work that acts when its term is over.

    Its cancellation does not prevent that, because it was frozen before.
    """

    async def work(*arguments: object) -> None:
        term = arguments[-1]
        assert isinstance(term, Term)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
                await act(manager, term)

    return work


@pytest.mark.parametrize("how", LATE)
@pytest.mark.parametrize("place", ["work", "on_elected", "on_ousted"])
@pytest.mark.parametrize("reason", [LossReason.DELETED, LossReason.EXPIRED, LossReason.RESIGNED])
async def test_the_candidate_queues_again_and_the_error_is_reported(
    etcd: FakeEtcd,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    reason: LossReason,
    place: str,
    how: str,
) -> None:
    act, kind = LATE[how]
    manager = make(etcd, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    work = after_the_end(manager, act)
    if place == "on_elected":
        manager.on_elected(work)
    elif place == "on_ousted":
        manager.on_ousted(lambda m, term: act(manager, term))
    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work if place == "work" else nothing)
        term = await manager.wait_elected()
        await anyio.sleep(0.5)
        if reason is LossReason.DELETED:
            etcd.revoke(term.lease_id)
        elif reason is LossReason.EXPIRED:
            clock.advance(CONFIG.lease)
        else:
            group.start_soon(manager.resign)
        await until(lambda: manager.statistics().terms == 2)
        assert (await manager.wait_elected()).token > term.token
        assert manager.statistics().losses == {reason: 1}
        group.cancel_scope.cancel()
    ours = [error for error in errors if isinstance(error, kind)]
    assert ours
    assert [type(error) for error in errors] == [type(error) for error in ours]
    lines = [record for record in caplog.records if "after the end of its term" in record.message]
    assert [record.levelno for record in lines] == [logging.WARNING] * len(errors)
    assert str(ours[0]) in lines[0].message
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("how", LATE)
async def test_after_stop_the_campaign_returns_normally(etcd: FakeEtcd, clock: VirtualClock, how: str) -> None:
    manager = make(etcd, clock)
    results: list[object] = []

    async def run() -> None:
        results.append(await manager.run(after_the_end(manager, LATE[how][0])))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await manager.wait_elected()
        await anyio.sleep(0.5)
        await manager.stop()
    assert results == [None]


async def mixed(manager: EtcdLeaderManager, term: Term) -> None:
    raise ExceptionGroup("mine", [FencedError(1, 2), Boom()])


async def own_error(manager: EtcdLeaderManager, term: Term) -> None:
    raise Boom from FencedError(1, 2)


@pytest.mark.parametrize(("act", "kind"), [(mixed, ExceptionGroup), (own_error, Boom)])
async def test_any_other_exception_still_ends_the_campaign(
    etcd: FakeEtcd, clock: VirtualClock, act: Act, kind: type[Exception]
) -> None:
    manager = make(etcd, clock)

    async def lose() -> None:
        await manager.wait_elected()
        await anyio.sleep(0.5)
        etcd.revoke(next(iter(etcd.leases())))

    async with anyio.create_task_group() as group:
        group.start_soon(lose)
        with pytest.raises(kind):
            await manager.run(after_the_end(manager, act))
    assert not etcd.leases()


@pytest.mark.parametrize("place", ["work", "on_elected", "on_error"])
async def test_the_same_errors_during_a_term_end_the_campaign(etcd: FakeEtcd, clock: VirtualClock, place: str) -> None:
    """There the token is refused although this leader leads, or the error comes from another election."""
    manager, other = make(etcd, clock), make(etcd, clock, "b", election="other")
    async with other:
        lost = await other.wait_elected()
    for error in (FencedError(1, 2), LeadershipLostError(lost), NotLeaderError("another election")):

        async def fail(*arguments: object, error: Exception = error) -> None:
            raise error

        if place == "on_elected":
            manager.on_elected(fail)
        elif place == "on_error":
            manager.on_error(fail)
            manager.on_elected(provoke)
        with anyio.fail_after(CONFIG.lease), pytest.raises(type(error)) as caught:
            await manager.run(fail if place == "work" else nothing)
        assert caught.value is error
        manager = make(etcd, clock)


async def test_an_error_callback_that_fails_like_this_is_not_called_for_its_own_error(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make(etcd, clock)
    calls = 0

    @manager.on_error
    async def write_late(m: object, error: Exception) -> None:
        nonlocal calls
        calls += 1
        term = manager._scope.term if manager._scope is not None else None
        if term is not None:
            await write_through_a_gate(manager, term)

    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, after_the_end(manager, write_through_a_gate))
        term = await manager.wait_elected()
        await anyio.sleep(0.5)
        etcd.revoke(term.lease_id)
        await until(lambda: manager.statistics().terms == 2)
        group.cancel_scope.cancel()
    assert calls == 1 + 1  # the cancellation that ends the test is logged, too
    assert sum("after the end of its term" in record.message for record in caplog.records) >= 2


async def test_a_leading_block_that_writes_late_raises_leadership_lost(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    async with manager:
        for act in (write_through_a_gate, LATE["extend()"][0]):
            with pytest.raises(LeadershipLostError) as caught:
                async with manager.leading() as term:
                    etcd.revoke(term.lease_id)
                    with anyio.CancelScope(shield=True):
                        await until(lambda: not term.is_valid())
                        await act(manager, term)
            assert caught.value.term is term
            assert isinstance(caught.value.__cause__, FencedError | NotLeaderError)
        with pytest.raises(FencedError):
            async with manager.leading() as term:
                await write_through_a_gate(manager, term)


async def test_two_freezes_leave_three_candidates(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Each leader wakes up after its successor's first write, and is refused."""
    gate = Gate("report")
    clocks = [VirtualClock() for _ in range(3)]
    managers = [make(etcd, one, name) for one, name in zip(clocks, "abc", strict=True)]
    ended: list[Any] = []

    async def work(term: Term) -> None:
        try:
            while True:
                gate.check(term.token)
                await anyio.sleep(0.2)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
            gate.check(term.token)

    async def run(manager: EtcdLeaderManager) -> None:
        ended.append(await manager.run(work))

    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(run, manager)
        for _ in range(4):
            await until(lambda: any(manager.is_leader() for manager in managers))
            leader = next(manager for manager in managers if manager.is_leader())
            await anyio.sleep(1)
            term = leader.term
            assert term is not None
            clocks[managers.index(leader)].advance(CONFIG.lease)
            etcd.revoke(term.lease_id)
            await until(lambda: gate.token > term.token)  # noqa: B023 - awaited in this iteration
        await anyio.sleep(CONFIG.lease)
        assert ended == []
        assert len(await managers[0].candidates()) == 3
        group.cancel_scope.cancel()
