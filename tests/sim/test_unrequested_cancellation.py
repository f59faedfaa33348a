"""asyncio's CancelledError without a request: work or a callback awaits a task that other code has cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from etcdleader import (
    EtcdLeaderError,
    EtcdLeaderManager,
    EtcdUnavailableError,
    LeaderManager,
    LossReason,
    NoopLeaderManager,
    Term,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock, virtual_backend
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio

only_asyncio = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(virtual_backend("asyncio"), id="virtual-asyncio")]
)


async def await_a_cancelled_task() -> None:
    helper = asyncio.create_task(anyio.sleep_forever())
    asyncio.get_running_loop().call_soon(helper.cancel)
    await helper


async def cancel_the_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


@only_asyncio
@pytest.mark.parametrize("act", [await_a_cancelled_task, cancel_the_own_task])
@pytest.mark.parametrize("place", ["work", "on_elected"])
@pytest.mark.parametrize("kind", ["etcd", "noop"])
async def test_a_cancelled_error_in_the_work_or_in_on_elected_ends_the_campaign_once_as_an_error(
    etcd: FakeEtcd,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    place: str,
    act: Callable[[], Awaitable[None]],
) -> None:
    manager = make(etcd, clock) if kind == "etcd" else NoopLeaderManager(CONFIG, ELECTION)
    runs = 0

    async def work(*arguments: object) -> None:
        nonlocal runs
        runs += 1
        await act()

    async def wait(term: Term) -> None:
        await anyio.sleep_forever()

    if place == "on_elected":
        manager.on_elected(work)
    with anyio.fail_after(CONFIG.lease), pytest.raises(EtcdLeaderError, match="cancelled") as caught:
        await manager.run(work if place == "work" else wait)
    if act is await_a_cancelled_task:
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert runs == 1
    assert manager.statistics().losses == {LossReason.FAILED: 1}
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        f"campaign of {manager.identity} ends with EtcdLeaderError: {caught.value}"
    ]
    assert not etcd.leases()


@only_asyncio
@pytest.mark.parametrize("act", [await_a_cancelled_task, cancel_the_own_task])
@pytest.mark.parametrize("place", ["on_ousted", "on_error"])
async def test_a_cancelled_error_in_the_other_callbacks_ends_the_campaign_too(
    etcd: FakeEtcd, clock: VirtualClock, place: str, act: Callable[[], Awaitable[None]]
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    getattr(manager, place)(lambda manager, argument: act())
    if place == "on_ousted":
        manager.on_elected(lambda manager, term: etcd.revoke(term.lease_id))
    else:
        client.fail("txn", EtcdUnavailableError("for a moment"))
    with anyio.fail_after(CONFIG.lease), pytest.raises(EtcdLeaderError, match="cancelled"):
        await manager.campaign()
    assert not etcd.leases()


@only_asyncio
@pytest.mark.parametrize("way", ["stop", "resign", "loss", "cancellation", "native cancellation"])
async def test_a_helper_that_is_cancelled_when_the_term_ends_is_no_failure(
    etcd: FakeEtcd, clock: VirtualClock, way: str
) -> None:
    manager = make(etcd, clock)
    helpers: list[asyncio.Task[None]] = []

    async def work(term: Term) -> None:
        helper = asyncio.create_task(anyio.sleep_forever())
        helpers.append(helper)
        await helper

    campaign = asyncio.create_task(manager.run(work))
    await until(lambda: helpers)
    helpers[0].cancel()
    if way == "loss":
        etcd.revoke(next(iter(etcd.leases())))
        await until(lambda: len(helpers) == 2)
    elif way == "resign":
        await manager.resign()
        await until(lambda: len(helpers) == 2)
    if way == "native cancellation":
        campaign.cancel()
        with pytest.raises(asyncio.CancelledError):
            await campaign
    else:
        await manager.stop()
        await campaign
    assert LossReason.FAILED not in manager.statistics().losses
    assert not etcd.leases()


@only_asyncio
async def test_a_program_that_cancels_all_its_tasks_gets_no_error_from_the_library(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio.run does this at its end, in the order of a set."""

    async def work(term: Term) -> None:
        await anyio.sleep_forever()

    for number in range(20):
        manager = make(etcd, clock, str(number))
        manager.on_elected(lambda manager, term: anyio.sleep_forever())
        before = asyncio.all_tasks()
        campaign = asyncio.create_task(manager.run(work))
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        ours = [task for task in asyncio.all_tasks() - before if "etcdleader" not in task.get_name()]
        for task in ours if number % 2 else reversed(ours):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await campaign
        assert manager.statistics().losses == {LossReason.STOPPED: 1}
        assert not etcd.leases()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@only_asyncio
async def test_a_block_that_awaits_a_cancelled_task_raises_its_cancelled_error(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The block is the caller's own code, in the caller's own task."""
    manager = make(etcd, clock)
    with pytest.raises(asyncio.CancelledError):
        async with manager:
            await manager.wait_elected()
            await await_a_cancelled_task()
    assert manager.statistics().losses == {LossReason.STOPPED: 1}
    with pytest.raises(asyncio.CancelledError):
        async with manager, manager.leading():
            await await_a_cancelled_task()
    assert not etcd.leases()


@pytest.mark.parametrize("kind", ["etcd", "noop"])
async def test_terms_that_end_at_once_do_not_spin(etcd: FakeEtcd, clock: VirtualClock, kind: str) -> None:
    """This holds with and without etcd. The first pause of the back-off is between two candidacies."""
    manager = make(etcd, clock) if kind == "etcd" else NoopLeaderManager(CONFIG, ELECTION)

    @manager.on_elected
    def lose(manager: LeaderManager, term: Term) -> None:
        assert isinstance(manager, EtcdLeaderManager | NoopLeaderManager)
        assert manager._scope is not None
        manager._scope.close(LossReason.EXPIRED)

    seconds = 10
    with anyio.move_on_after(seconds):
        await manager.campaign()
    assert 16 * seconds / CONFIG.retry - 1 <= manager.statistics().terms <= 32 * seconds / CONFIG.retry + 1
