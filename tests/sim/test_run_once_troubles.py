"""Work that is to be done once fails, is lost, is stopped, or cannot be recorded."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import (
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdRegressedError,
    EtcdUnavailableError,
    NotLeaderError,
    Term,
)
from etcdleader._etcd.api import DeleteRange
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.once import RECORD, Job, puts, recorded
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio


async def test_a_failure_is_raised_and_not_recorded_and_the_next_one_tries(etcd: FakeEtcd, clock: VirtualClock) -> None:
    first, second, job = make(etcd, clock, "a"), make(etcd, clock, "b"), Job()
    results: list[object] = []

    async def fail(term: Term) -> None:
        await until(lambda: second.statistics().queue_position == 1)
        raise RuntimeError("no such table")

    async def one() -> None:
        try:
            await first.run_once("v42", fail)
        except RuntimeError as error:
            assert not recorded(etcd)
            results.append(str(error))

    async def two() -> None:
        results.append(await second.run_once("v42", job))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(first.is_leader)
        group.start_soon(two)
    assert results == ["no such table", True]
    assert recorded(etcd)


async def test_work_that_is_lost_is_not_recorded_and_the_next_one_does_it(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """This includes work that returns at the loss, as a loop over `term.is_valid()` does."""
    first, second, job = make(etcd, clock, "a"), make(etcd, clock, "b"), Job(3)
    begun = 0
    results: dict[str, bool] = {}

    async def polling(term: Term) -> None:
        nonlocal begun
        begun += 1
        with anyio.CancelScope(shield=True):
            while term.is_valid():
                await anyio.sleep(0.1)

    async def one() -> None:
        results["first"] = await first.run_once("v42", polling)

    async def two() -> None:
        results["second"] = await second.run_once("v42", job)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(lambda: begun == 1)
        group.start_soon(two)
        await until(lambda: second.statistics().queue_position == 1)
        assert first.term is not None
        etcd.delete(first.term.key)
        await until(second.is_leader)
        assert not recorded(etcd)
    assert results == {"first": False, "second": True}
    assert begun == 1


async def test_a_leader_whose_key_is_gone_records_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its record is guarded by its key, even if this process has not detected the loss."""
    client = etcd.client("a")
    first, second, job = make(client, clock, "a"), make(etcd, clock, "b"), Job(2)
    results: dict[str, bool] = {}
    ended = anyio.Event()

    async def busy(term: Term) -> None:
        client.stall_watches()
        etcd.delete(term.key)
        await until(second.is_leader)
        ended.set()

    async def one() -> None:
        results["first"] = await first.run_once("v42", busy)

    async def two() -> None:
        results["second"] = await second.run_once("v42", job)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(first.is_leader)
        group.start_soon(two)
        await ended.wait()
        await anyio.sleep(0.5)
        assert not recorded(etcd)
        client.resume_watches()
    assert results == {"first": False, "second": True}


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_record_without_an_answer_is_sent_again(
    etcd: FakeEtcd, clock: VirtualClock, lost: str, times: int
) -> None:
    client = etcd.client("a")
    left = times

    async def lose(call: Call) -> None:
        nonlocal left
        if puts(call) and call.stage == ("before" if lost == "request" else "after") and left:
            left -= 1
            await anyio.sleep_forever()

    etcd.hooks.append(lose)
    job = Job()
    assert await make(client, clock).run_once("v42", job)
    assert recorded(etcd)
    assert job.begun == 1
    assert left == 0


async def test_one_that_is_cut_off_after_its_record_was_applied_did_it(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client("a")
    first, second, job = make(client, clock, "a"), make(etcd, clock, "b"), Job()
    results: dict[str, bool] = {}

    async def cut_off(call: Call) -> None:
        if puts(call) and call.stage == "after":
            etcd.hooks.remove(cut_off)
            client.partition()
            await anyio.sleep_forever()

    async def one() -> None:
        results["first"] = await first.run_once("v42", job)

    async def two() -> None:
        results["second"] = await second.run_once("v42", job)

    etcd.hooks.append(cut_off)
    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(first.is_leader)
        group.start_soon(two)
        await until(lambda: client.partitioned)
        await anyio.sleep(3 * CONFIG.lease)
        assert results == {"second": False}
        client.heal()
    assert results == {"first": True, "second": False}
    assert job.begun == 1


async def test_while_etcd_is_down_it_waits(etcd: FakeEtcd, clock: VirtualClock) -> None:
    etcd.stop()
    manager, job = make(etcd, clock), Job()
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with anyio.create_task_group() as group:

        async def start() -> None:
            await anyio.sleep(20)
            etcd.start()

        group.start_soon(start)
        assert await manager.run_once("v42", job)
    assert any(isinstance(error, EtcdUnavailableError) for error in errors)


async def test_stop_ends_it_with_an_error_at_any_moment(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """False would mean that it is done."""
    client = etcd.client()
    client.latency = 0.05
    for moment in range(30):
        manager = make(client, clock)
        async with anyio.create_task_group() as group:

            async def stop(manager: EtcdLeaderManager = manager, after: float = moment * 0.04) -> None:
                await anyio.sleep(after)
                await manager.stop()

            group.start_soon(stop)
            with pytest.raises(NotLeaderError, match="stopped before 'v42' was done"):
                await manager.run_once("v42", Job(60))
        assert not etcd.keys()


async def test_a_waiting_one_is_stopped_while_etcd_is_down(etcd: FakeEtcd, clock: VirtualClock) -> None:
    etcd.stop()
    manager = make(etcd, clock)
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            await anyio.sleep(10)
            await manager.stop()

        group.start_soon(stop)
        with pytest.raises(NotLeaderError):
            await manager.run_once("v42", Job())


async def test_the_permission_is_checked_before_the_work(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    job = Job()

    def refuse(call: Call) -> None:
        if call.kind == "txn" and DeleteRange(RECORD.encode()) in call.arguments[1]:
            raise EtcdRefusedError("etcdserver: permission denied")

    etcd.hooks.append(refuse)
    with pytest.raises(EtcdRefusedError, match=f"readwrite for the prefix '{ELECTION}@done/'"):
        await make(client, clock).run_once("v42", job)
    assert job.begun == 0
    etcd.hooks.clear()
    client.refuse("range")
    with pytest.raises(EtcdRefusedError, match="readwrite"):
        await make(client, clock).run_once("v42", job)
    assert not etcd.keys()


async def test_a_refused_record_is_raised_after_the_work(etcd: FakeEtcd, clock: VirtualClock) -> None:
    job = Job()

    def refuse(call: Call) -> None:
        if puts(call):
            raise EtcdRefusedError("etcdserver: permission denied")

    etcd.hooks.append(refuse)
    with pytest.raises(EtcdRefusedError, match="readwrite"):
        await make(etcd, clock).run_once("v42", job)
    assert job.done == 1
    assert not etcd.keys()


async def test_a_restored_etcd_ends_it(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    snapshot = etcd.snapshot()
    async with anyio.create_task_group() as group:

        async def restore() -> None:
            await until(manager.is_leader)
            for number in range(5):
                etcd.put("data", str(number))
            await anyio.sleep(CONFIG.renew)
            etcd.restore(snapshot)

        group.start_soon(restore)
        with pytest.raises(EtcdRegressedError):
            await manager.run_once("v42", Job(60))
