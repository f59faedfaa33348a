"""What the end of a term causes in its work: a refused write, a refused ``extend``. It is a loss, and no failure."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from etcdleader import (
    EtcdLeaderError,
    EtcdLeaderManager,
    LeaderManager,
    LeadershipLostError,
    LossReason,
    NotLeaderError,
    Term,
)
from etcdleader.fencing import FencedError, Gate
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.test_work import Boom
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

Act = Callable[[EtcdLeaderManager, Term], Awaitable[object]]


async def write_through_a_gate(manager: EtcdLeaderManager, term: Term) -> None:
    gate = Gate("report", token=term.token + 1)  # a successor was there
    with gate.passing(term.token):
        raise AssertionError


async def write_in_a_task_of_the_works_own(manager: EtcdLeaderManager, term: Term) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(write_through_a_gate, manager, term)
        group.start_soon(manager.extend, term)


LATE: dict[str, tuple[Act, type[EtcdLeaderError]]] = {
    "Gate.passing": (write_through_a_gate, FencedError),
    "extend(term)": (lambda manager, term: manager.extend(term), LeadershipLostError),
    "extend()": (lambda manager, term: manager.extend(), NotLeaderError),
    "attach": (lambda manager, term: term.attach("status", "up"), LeadershipLostError),
    "in a group": (write_in_a_task_of_the_works_own, FencedError),
}


async def nothing(term: Term) -> None:
    await anyio.sleep_forever()


def after_the_end(manager: EtcdLeaderManager, act: Act) -> Callable[..., Awaitable[None]]:
    """Return work that acts when its term is over, which its cancellation does not keep it from: it was frozen before."""

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
    told: list[Exception] = []
    manager.on_error(lambda manager, error: told.append(error))
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
    ours = [error for error in told if isinstance(error, kind)]
    assert ours
    assert [type(error) for error in told] == [type(error) for error in ours]
    lines = [record for record in caplog.records if "after the end of its term" in record.message]
    assert [record.levelno for record in lines] == [logging.WARNING] * len(told)
    assert str(ours[0]) in lines[0].message
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("how", LATE)
async def test_after_stop_the_campaign_returns_as_always(etcd: FakeEtcd, clock: VirtualClock, how: str) -> None:
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


def provoke(manager: LeaderManager, term: Term) -> None:
    assert isinstance(manager, EtcdLeaderManager)
    manager._reporter.on_trouble(EtcdLeaderError("trouble"))


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
async def test_the_same_errors_in_a_term_that_goes_on_end_the_campaign(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    """There the token is refused although this leader leads, or the error is another election's."""
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


async def test_a_callback_for_errors_that_fails_so_is_not_called_for_that_again(
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
    assert calls == 1 + 1  # of the cancellation that ends the test, too
    assert sum("after the end of its term" in record.message for record in caplog.records) >= 2


async def test_a_leading_block_that_writes_late_raises_that_it_has_lost_leadership(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
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


# Refused before this process has learned that its term is over: the watch delivers the DELETE later.


def refused_after(etcd: FakeEtcd, manager: EtcdLeaderManager, act: Act) -> Callable[..., Awaitable[None]]:
    """Return work whose first term is ended by etcd, and which acts before any event has arrived."""
    terms: list[Term] = []

    async def work(*arguments: object) -> None:
        term = manager.term
        assert term is not None
        await anyio.sleep(0.5)
        if not terms or terms[0] is term:
            if not terms:
                terms.append(term)
                etcd.revoke(term.lease_id)
            assert term.is_valid()
            await act(manager, term)
            raise AssertionError
        await anyio.sleep_forever()

    return work


async def attach(manager: EtcdLeaderManager, term: Term) -> None:
    await term.attach("status", "up")


FIRST: dict[str, tuple[Act, type[EtcdLeaderError]]] = {
    "Gate.passing": (write_through_a_gate, FencedError),
    "attach": (attach, LeadershipLostError),
    "in a group": (write_in_a_task_of_the_works_own, FencedError),
}


@pytest.mark.parametrize("how", FIRST)
@pytest.mark.parametrize("place", ["work", "on_elected", "on_error"])
async def test_a_refusal_that_comes_before_the_event_of_the_loss_is_a_loss_too(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture, place: str, how: str
) -> None:
    act, kind = FIRST[how]
    client = etcd.client("a")
    manager = make(client, clock)
    told: list[Exception] = []
    manager.on_error(lambda manager, error: told.append(error))
    work = refused_after(etcd, manager, act)
    if place == "on_elected":
        manager.on_elected(work)
    elif place == "on_error":
        manager.on_error(work)
        manager.on_elected(provoke)
    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work if place == "work" else nothing)
        term = await manager.wait_elected()
        client.stall_watches()
        began_at = anyio.current_time()
        await until(lambda: term.loss_reason)
        assert anyio.current_time() - began_at < 0.5 + CONFIG.retry
        await until(lambda: manager.statistics().terms == 2)
        assert (await manager.wait_elected()).token > term.token
        group.cancel_scope.cancel()
    assert term.loss_reason in {LossReason.DELETED, LossReason.REVOKED}
    assert manager.statistics().losses[term.loss_reason] == 1
    assert LossReason.FAILED not in manager.statistics().losses
    assert any("after the end of its term" in record.message for record in caplog.records)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    if place != "on_error":
        assert [error for error in told if isinstance(error, kind)]


async def test_a_leading_block_that_is_refused_before_the_event_of_the_loss_raises_that_it_has_lost_leadership(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    async with manager:
        with pytest.raises(LeadershipLostError) as caught:
            async with manager.leading() as term:
                client.stall_watches()
                etcd.revoke(term.lease_id)
                await write_through_a_gate(manager, term)
        assert caught.value.term is term
        assert isinstance(caught.value.__cause__, FencedError)


async def test_a_refusal_in_a_term_that_etcd_does_not_confirm_in_time_ends_the_campaign(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    refused_at = 0.0

    async def work(term: Term) -> None:
        nonlocal refused_at
        client.partition()
        refused_at = anyio.current_time()
        await write_through_a_gate(manager, term)

    manager.on_ousted(lambda manager, term: client.heal())
    with anyio.fail_after(CONFIG.lease), pytest.raises(FencedError):
        await manager.run(work)
    assert CONFIG.retry - 0.1 <= anyio.current_time() - refused_at <= 2 * CONFIG.retry


@pytest.mark.parametrize("way", ["stop", "resign", "loss"])
async def test_a_term_that_ends_while_etcd_is_asked_for_it_ends_as_always(
    etcd: FakeEtcd, clock: VirtualClock, way: str
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    told: list[Exception] = []
    manager.on_error(lambda manager, error: told.append(error))
    runs = 0

    async def work(term: Term) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            client.delay("txn", answer=0.5)
            await write_through_a_gate(manager, term)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work)
        term = await manager.wait_elected()
        await anyio.sleep(0.1)
        assert term.is_valid()
        if way == "loss":
            etcd.revoke(term.lease_id)
            await until(lambda: not term.is_valid(), timeout=0.3)
        else:
            await getattr(manager, way)()
        if way != "stop":
            await until(lambda: runs == 2)
            group.cancel_scope.cancel()
    assert LossReason.FAILED not in manager.statistics().losses
    assert any(isinstance(error, FencedError) for error in told)


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
            await until(lambda: gate.token > term.token)  # noqa: B023 - awaited in this round
        await anyio.sleep(CONFIG.lease)
        assert ended == []
        assert len(await managers[0].candidates()) == 3
        group.cancel_scope.cancel()
