"""Cancellations that ignore every shield, and unexpected failures. Leadership is not released while work runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdLeaderManager, LeadershipLostError, LeaderStatus, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.world import CONFIG, Recorder, make, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelling_all_tasks_of_the_loop_does_not_release_under_work_that_cleans_up(
    etcd: FakeEtcd, clock: VirtualClock, times: int, anyio_backend_name: str
) -> None:
    """Shutdown handlers do this. asyncio's own cancellation ignores shields."""
    if anyio_backend_name != "asyncio":
        return  # trio cannot do this
    manager = make(etcd, clock)
    seen: list[bool] = []

    async def work() -> None:
        with pytest.raises(LeadershipLostError):
            async with manager.leading():
                try:
                    await anyio.sleep_forever()
                finally:
                    await clean_up()

    async def clean_up() -> None:
        for _ in range(10):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            seen.append(bool(etcd.keys()))

    campaign = asyncio.ensure_future(manager.campaign())
    body = asyncio.ensure_future(work())
    await manager.wait_elected()
    await anyio.sleep(0.5)
    for _ in range(times):
        for task in asyncio.all_tasks():
            if task is campaign or task.get_name().startswith(("etcdleader._", "etcdleader renewals")):
                task.cancel()
        await anyio.sleep(0.05)
    await asyncio.wait([campaign, body])
    await body
    assert seen == [True] * 10


async def test_a_log_handler_that_raises_ends_the_term_and_never_gives_two_leaders(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The term ends before leadership is released, on every path."""

    def fail(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(f"{first.identity} leads"):
            raise RuntimeError("the disk of the log is full")
        return True

    logger = logging.getLogger("etcdleader")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addFilter(fail)
    first_client = etcd.client("a")
    first, second = make(first_client, clock), make(etcd, clock, "b")
    try:
        async with anyio.create_task_group() as group:
            await group.start(second.campaign)
            term = await second.wait_elected()
            first_client.lose_answer("lease_revoke")

            async def campaign() -> None:
                with pytest.raises(RuntimeError, match="full"):
                    await first.campaign()

            group.start_soon(campaign)
            await until(lambda: len(etcd.keys()) == 2)
            await second.resign()
            assert term.loss_reason is LossReason.RESIGNED
            for _ in range(200):
                assert not (first.is_leader() and second.is_leader())
                await anyio.sleep(0.05)
            await second.stop()
            group.cancel_scope.cancel()
    finally:
        logger.removeFilter(fail)
    assert not first.is_leader()
    assert first.status is not LeaderStatus.ELECTED


async def test_watches_that_are_never_created_are_one_outage_while_all_other_calls_succeed(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etcdleader")
    client = etcd.client()
    client.lose_answer("watch", times=10_000)
    manager = make(client, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(60)
        assert term.is_valid()
        assert len(recorder.errors) == 1
        records = [record for record in caplog.records if "failed" in record.message or "restored" in record.message]
        assert len(records) == 1
        client.clear_faults()
        await until(lambda: any("etcd connection restored" in record.message for record in caplog.records))


async def test_stop_in_a_task_that_outlives_its_leading_block_waits_for_the_work(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """It no longer runs in the block, so it may wait. It must, because work of the term still runs."""
    manager = make(etcd, clock)
    ended: list[str] = []
    left = anyio.Event()

    async def stop_later() -> None:
        await left.wait()
        await manager.stop()
        ended.append("stop")

    @manager.on_elected
    async def slow(manager: object, term: Term) -> None:
        try:
            await work_until_cancelled(1)
        finally:
            ended.append("work")

    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        async with manager.leading():
            group.start_soon(stop_later)
            await anyio.sleep(0.1)
        left.set()
        await until(lambda: len(ended) == 2)
    assert ended == ["work", "stop"]


async def test_an_observer_leaves_a_frozen_member() -> None:
    """It renews nothing, so only a request of the observer can detect that."""
    async with FakeEtcd(members=2) as etcd:
        clock: Callable[[], float] = anyio.current_time
        leader = EtcdLeaderManager(etcd.client("a", endpoints=etcd.members[1:]), CONFIG, "jobs", clock=clock)
        watcher = EtcdLeaderManager(etcd.client("b"), CONFIG, "jobs", clock=clock)
        async with leader, watcher.observe() as leaders:
            term = await leader.wait_elected()
            first = await anext(leaders)
            while first is None:
                first = await anext(leaders)
            assert first.token == term.token
            etcd.members[0].freeze()
            await leader.resign()
            again = await leader.wait_elected()
            with anyio.fail_after(5 * CONFIG.retry):
                while (seen := await anext(leaders)) is None or seen.token != again.token:
                    pass
