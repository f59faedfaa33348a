"""Check what work and callbacks may do: hang, raise, return, swallow cancellation, stop their own campaign."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader import (
    EtcdLeaderManager,
    EtcdUnavailableError,
    LeaderManager,
    LeaderStatus,
    LossReason,
    NotLeaderError,
    Term,
)
from etcdleader._election.candidacy import Candidacy
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

WORKPLACES = ("on_elected", "work", "leading")
PLACES = (*WORKPLACES, "on_ousted", "on_error")


class Boom(Exception):
    """An error of the user's code."""


async def nothing(*arguments: object) -> None:
    await anyio.sleep_forever()


@asynccontextmanager
async def campaigning(
    manager: EtcdLeaderManager, place: str, act: Callable[[], Awaitable[object]]
) -> AsyncIterator[list[object]]:
    """Campaign with ``act`` in one place, as ``run`` does. The outcome of the campaign is appended to the list."""
    ended: list[object] = []

    async def work(term: Term) -> None:
        await (act() if place == "work" else nothing())

    async def lead() -> None:
        while not ended:
            try:
                async with manager.leading():
                    await act()
                    await nothing()
            except NotLeaderError:
                # The term was lost or the campaign has ended. That also ends this.
                await anyio.sleep(0.1)

    async def campaign() -> None:
        try:
            ended.append(await manager.run(work))
        except Exception as error:  # noqa: BLE001
            ended.append(error)
        group.cancel_scope.cancel()

    if place.startswith("on_"):
        getattr(manager, place)(lambda manager, argument: act())
    async with anyio.create_task_group() as group:
        if place == "leading":
            group.start_soon(lead)
        group.start_soon(campaign)
        yield ended
        await anyio.sleep_forever()


def provoke(etcd: FakeEtcd, client: FakeClient, place: str) -> None:
    """Trigger the callbacks of this place, if being elected is not enough."""
    if place == "on_ousted":
        etcd.revoke(next(iter(etcd.leases())))
    elif place == "on_error":
        client.fail("lease_keep_alive", EtcdUnavailableError("for a moment"))


async def requesting(request: Callable[[], Awaitable[object]], outcomes: list[str]) -> None:
    """Call it, and append the outcome. The call must take no time."""
    asked_at = anyio.current_time()
    outcomes.append("requested")
    try:
        await request()
    except anyio.get_cancelled_exc_class():
        outcomes.append("cancelled")
        raise
    else:
        outcomes.append("returned")
    finally:
        assert anyio.current_time() == asked_at


@pytest.mark.parametrize("place", PLACES)
async def test_stop_from_inside_requests_the_stop_and_never_waits_for_itself(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    """In the work, the call is cancelled together with the work. In the other callbacks it returns at once."""
    client = etcd.client()
    manager = make(client, clock)
    outcomes: list[str] = []

    async def act() -> None:
        await requesting(manager.stop, outcomes)

    with anyio.fail_after(CONFIG.lease):
        async with campaigning(manager, place, act) as ended:
            await until(lambda: manager.statistics().terms)
            provoke(etcd, client, place)
            await until(lambda: ended)
    assert ended == [None]
    assert outcomes == ["requested", "cancelled" if place in WORKPLACES else "returned"]
    assert not etcd.keys()
    assert not etcd.leases()
    assert manager.status is LeaderStatus.OUSTED


@pytest.mark.parametrize("place", PLACES)
async def test_resign_from_inside_requests_the_release_and_the_candidate_rejoins(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    outcomes: list[str] = []

    async def act() -> None:
        if outcomes:
            return
        await requesting(manager.resign, outcomes)

    with anyio.fail_after(2 * CONFIG.lease):
        async with campaigning(manager, place, act) as ended:
            await until(lambda: manager.statistics().terms)
            provoke(etcd, client, place)
            await until(lambda: manager.statistics().terms == 2)
            assert ended == []
            reason = LossReason.DELETED if place == "on_ousted" else LossReason.RESIGNED
            assert manager.statistics().losses == {reason: 1}
            await manager.stop()
    assert outcomes == ["requested", "cancelled" if place in WORKPLACES else "returned"]
    assert not etcd.leases()


@pytest.mark.parametrize("place", WORKPLACES)
@pytest.mark.parametrize("name", ["stop", "resign"])
async def test_stop_and_resign_return_at_once_where_no_cancellation_is_delivered(
    etcd: FakeEtcd, clock: VirtualClock, name: str, place: str
) -> None:
    """If they waited, they would wait for themselves forever. The places: a shielded scope, and clean-up code."""
    manager = make(etcd, clock)
    returned: list[float] = []

    async def request() -> None:
        asked_at = anyio.current_time()
        with anyio.CancelScope(shield=True):
            await getattr(manager, name)()
        returned.append(anyio.current_time() - asked_at)

    async def act() -> None:
        try:
            if manager.statistics().terms == 1:
                await request()
            await nothing()
        finally:
            await request()

    with anyio.fail_after(2 * CONFIG.lease):
        async with campaigning(manager, place, act) as ended:
            await until(lambda: manager.statistics().terms == (2 if name == "resign" else 1))
            await manager.stop()
            await until(lambda: ended)
    assert returned == [0.0] * len(returned)
    assert len(returned) >= 2
    assert not etcd.leases()


ERRORS = (
    Boom("plain"),
    KeyboardInterrupt(),
    SystemExit(3),
    ExceptionGroup("mine", [Boom("in a group")]),
    BaseExceptionGroup("mine", [KeyboardInterrupt()]),
)


async def enter(manager: EtcdLeaderManager) -> None:
    async with manager:
        await anyio.sleep_forever()


ENTRIES: dict[str, Callable[[EtcdLeaderManager], Awaitable[Any]]] = {
    "campaign": lambda manager: manager.campaign(),
    "run": lambda manager: manager.run(nothing),
    "async with": enter,
}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(
    ("entry", "place"),
    [("run", "work"), *((entry, place) for entry in ENTRIES for place in ("on_elected", "on_ousted", "on_error"))],
)
async def test_an_exception_of_a_callback_or_the_work_is_raised_unchanged_after_the_release(
    etcd: FakeEtcd, clock: VirtualClock, entry: str, place: str, error: BaseException
) -> None:
    """It is not copied, and not put into a group of the library. A group that the user raised stays one."""
    client = etcd.client()
    manager = make(client, clock)

    async def fail(*arguments: object) -> None:
        raise error

    if place == "on_ousted":
        manager.on_elected(lambda manager, term: etcd.revoke(term.lease_id))
    elif place == "on_error":
        client.fail("txn", EtcdUnavailableError("for a moment"))
    if place != "work":
        getattr(manager, place)(fail)
    with anyio.fail_after(CONFIG.lease), pytest.raises(type(error)) as caught:
        await (manager.run(fail) if place == "work" else ENTRIES[entry](manager))
    assert caught.value is error
    assert not etcd.keys()
    assert not etcd.leases()
    assert manager.status is (LeaderStatus.INIT if place == "on_error" else LeaderStatus.OUSTED)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_exception_of_a_block_is_raised_unchanged_after_the_release(
    etcd: FakeEtcd, clock: VirtualClock, error: BaseException
) -> None:
    manager = make(etcd, clock)
    with pytest.raises(type(error)) as caught:
        async with manager, manager.leading():
            raise error
    assert caught.value is error
    assert not etcd.leases()


async def test_a_group_of_the_works_own_tasks_is_not_wrapped_when_one_of_them_fails_at_the_end(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """On trio such a group also holds the cancellation, until a scope takes that out."""
    manager = make(etcd, clock)

    async def fail_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise Boom

    async def work(term: Term) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail_when_cancelled)
            await anyio.sleep_forever()

    async def stop() -> None:
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        await manager.stop()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        with pytest.raises(ExceptionGroup) as caught:
            await manager.run(work)
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def test_several_failing_callbacks_are_one_group(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    errors = [Boom(str(number)) for number in range(3)]

    async def fail(error: Boom) -> None:
        raise error

    manager.on_elected(lambda manager, term: fail(errors[0]))
    manager.on_ousted(lambda manager, term: fail(errors[1]))
    manager.on_ousted(lambda manager, term: fail(errors[2]))
    with pytest.raises(ExceptionGroup) as caught:
        await manager.campaign()
    assert set(caught.value.exceptions) == set(errors)
    assert not etcd.leases()


@pytest.mark.parametrize("place", WORKPLACES)
@pytest.mark.parametrize("way", ["stop", "resign", "operator"])
@pytest.mark.parametrize("how", ["shielded", "swallowing"])
async def test_leadership_does_not_pass_while_work_runs_on_after_its_cancellation(
    etcd: FakeEtcd, clock: VirtualClock, place: str, way: str, how: str
) -> None:
    """This holds as long as the lease exists: the next in line waits for the work, not for the mark."""
    manager, successor = make(etcd, clock, "a"), make(etcd, clock, "b")
    at_work: list[str] = []
    seen: list[list[str]] = []
    successor.on_elected(lambda manager, term: seen.append(list(at_work)))

    async def act() -> None:
        at_work.append("at work")
        try:
            await nothing()
        except anyio.get_cancelled_exc_class():
            ends_at = anyio.current_time() + 0.9 * CONFIG.lease
            while anyio.current_time() < ends_at:
                try:
                    with anyio.CancelScope(shield=how == "shielded"):
                        await anyio.sleep(0.5)
                except anyio.get_cancelled_exc_class():
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.5)
            raise
        finally:
            at_work.pop()

    async with anyio.create_task_group() as group:
        async with campaigning(manager, place, act):
            term = await manager.wait_elected()
            await group.start(successor.campaign)
            await until(lambda: at_work)
            if way == "operator":
                etcd.request_step_down(term.key)
            else:
                group.start_soon(getattr(manager, way))
            asked_at = anyio.current_time()
            await successor.wait_elected()
            assert anyio.current_time() - asked_at >= 0.9 * CONFIG.lease
            await manager.stop()
        group.cancel_scope.cancel()
    assert seen == [[]]
    assert manager.statistics().overruns == 0


async def test_a_slow_callback_delays_no_renewal(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    finished = anyio.Event()

    @manager.on_elected
    async def slow(manager: LeaderManager, term: Term) -> None:
        await anyio.sleep(3600)
        assert term.is_valid()
        finished.set()

    async with manager:
        await finished.wait()
        assert manager.statistics().renewals >= 3600 / CONFIG.renew - 2
        assert manager.statistics().renewal_failures == 0
        assert manager.statistics().terms == 1


@pytest.mark.parametrize("place", WORKPLACES)
async def test_a_loss_ends_work_that_hangs_forever(etcd: FakeEtcd, clock: VirtualClock, place: str) -> None:
    manager = make(etcd, clock)
    async with campaigning(manager, place, nothing) as ended:
        for _ in range(3):
            term = await manager.wait_elected()
            await anyio.sleep(1)
            etcd.revoke(term.lease_id)
            await until(lambda: not term.is_valid(), timeout=1)  # noqa: B023 - awaited in this iteration
        await manager.stop()
        await until(lambda: ended)
    assert manager.statistics().losses == {LossReason.DELETED: 3}


@pytest.mark.parametrize("entry", ["run", "campaign"])
async def test_a_bug_of_the_library_in_a_term_ends_the_campaign_and_the_term_as_failed(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """Without this it was raised while the term ended as EXPIRED, and the cause stayed hidden."""
    manager = make(etcd, clock)
    error = AttributeError("ours")

    async def hold(candidacy: Candidacy) -> None:
        await anyio.sleep(1)
        raise error

    monkeypatch.setattr(Candidacy, "monitor", hold)
    with pytest.raises(AttributeError) as caught:
        await ENTRIES[entry](manager)
    assert caught.value is error
    assert manager.statistics().losses == {LossReason.FAILED: 1}
    assert not etcd.leases()
