"""Blocks that are entered in one task and left in another, as fixtures and notebooks do it."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import anyio
import anyio.to_thread
import pytest

from etcdleader import Config, LossReason, NoopLeaderManager
from etcdleader.model import HealthState
from etcdleader.testing import FakeEtcd
from tests.sim.world import make

ONCE = Config(lease=10, renew=2, retry=0.05)


async def tasks_have_ended() -> None:
    with anyio.move_on_after(30):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.001)


def cells(*functions: object) -> list[object]:
    """Run each function in a separate task on one loop, like the cells of a notebook. Return the error of each."""
    troubles: list[object] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    try:
        raised: list[object] = []
        for function in functions:
            try:
                loop.run_until_complete(function())  # type: ignore[operator]
            except Exception as error:  # noqa: BLE001
                raised.append(error)
            else:
                raised.append(None)
        gc.collect()
        loop.run_until_complete(tasks_have_ended())
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert not asyncio.all_tasks(loop)
        assert troubles == []
        return raised
    finally:
        loop.close()


def test_a_manager_left_in_another_task_is_stopped_and_the_error_names_the_remedy() -> None:
    manager = NoopLeaderManager(ONCE, "jobs")

    async def leave() -> None:
        await manager.__aexit__(None, None, None)
        raise AssertionError

    first, second, third = cells(manager.__aenter__, manager.wait_elected, leave)
    assert first is second is None
    assert isinstance(third, RuntimeError)
    assert "one task" in str(third)
    assert "manager.campaign() in a task" in str(third)
    assert not manager.is_leader()
    assert manager.statistics().losses == {LossReason.STOPPED: 1}


def test_the_remedy_in_the_error_works() -> None:
    manager = NoopLeaderManager(ONCE, "jobs")
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(manager.campaign()))
        await manager.wait_elected()

    async def end() -> None:
        await manager.stop()
        await tasks[0]

    assert cells(begin, end) == [None, None]


def test_a_campaign_that_has_failed_between_two_tasks_is_the_cause() -> None:
    manager = NoopLeaderManager(ONCE, "jobs")
    boom = ValueError("boom")

    async def fail(*arguments: object) -> None:
        await anyio.sleep(0.01)
        raise boom

    manager.on_elected(fail)

    async def leave() -> None:
        await manager.__aexit__(None, None, None)

    async def wait() -> None:
        with anyio.fail_after(30):
            while manager.health().state is not HealthState.FAILED:
                await asyncio.sleep(0.001)

    *_, last = cells(manager.__aenter__, wait, leave)
    assert isinstance(last, RuntimeError)
    assert last.__cause__ is boom


def test_a_leading_block_left_in_another_task_keeps_nothing_and_its_error_names_the_remedy() -> None:
    manager = NoopLeaderManager(ONCE, "jobs")
    block = manager.leading()
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(manager.campaign()))
        await block.__aenter__()

    async def leave() -> None:
        await block.__aexit__(None, None, None)

    async def end() -> None:
        assert manager.is_leader(), "to leave the block does not end the term"
        with anyio.fail_after(30):
            await manager.stop()
        await tasks[0]

    first, second, third = cells(begin, leave, end)
    assert first is third is None
    assert isinstance(second, RuntimeError)
    assert "wait_elected()" in str(second)


def test_a_manager_that_is_left_on_another_loop_is_stopped_on_its_own() -> None:
    manager = NoopLeaderManager(ONCE, "jobs")

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another task"):
            await manager.__aexit__(None, None, None)

    async def leave() -> None:
        await asyncio.to_thread(asyncio.run, elsewhere())
        with anyio.fail_after(30):
            while manager.is_leader():
                await asyncio.sleep(0.01)

    assert cells(manager.__aenter__, manager.wait_elected, leave) == [None] * 3


def test_a_fake_etcd_left_in_another_task_raises_the_same() -> None:
    etcd = FakeEtcd()

    async def leave() -> None:
        await etcd.__aexit__(None, None, None)

    first, second = cells(etcd.__aenter__, leave)
    assert first is None
    assert isinstance(second, RuntimeError)
    assert "in one task" in str(second)


@pytest.mark.anyio
async def test_the_lease_is_revoked_although_the_block_is_left_in_another_task() -> None:
    """The task that entered it goes on meanwhile, and is cancelled at the end."""
    async with FakeEtcd() as etcd:
        manager = make(etcd, anyio.current_time)
        entered = anyio.Event()
        raised: list[str] = []

        async def enter() -> None:
            await manager.__aenter__()
            entered.set()
            await anyio.sleep_forever()

        async def leave() -> None:
            await entered.wait()
            await manager.wait_elected()
            try:
                await manager.__aexit__(None, None, None)
            except RuntimeError as error:
                raised.append(str(error))
            assert not etcd.leases()
            group.cancel_scope.cancel()

        # What becomes of a task with a cancel scope that was never left is the event loop's affair.
        with contextlib.suppress(BaseExceptionGroup):
            async with anyio.create_task_group() as group:
                group.start_soon(enter)
                group.start_soon(leave)
        assert ["has been stopped" in message for message in raised] == [True]
        assert manager.statistics().losses == {LossReason.STOPPED: 1}
