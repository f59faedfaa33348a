"""Work that is done once for all candidates: recorded by the one that did it, and awaited by the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import anyio
import pytest

from etcdleader import (
    LeaderStatus,
    NoopLeaderManager,
    NotLeaderError,
    Term,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.once import RECORD, Job, recorded, run_all
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


async def test_one_of_many_does_it_and_all_others_wait_for_it(etcd: FakeEtcd, clock: VirtualClock) -> None:
    job = Job()
    managers = [make(etcd, clock, str(number)) for number in range(20)]
    results = await run_all(job, *managers)
    assert sorted(results) == [False] * 19 + [True]
    assert (job.begun, job.done) == (1, 1)
    assert [key.decode() for key in etcd.keys()] == [RECORD]
    record = json.loads(etcd.keys()[RECORD.encode()].value)
    (did,) = (manager for manager, result in zip(managers, results, strict=True) if result)
    assert record["identity"] == did.identity
    assert record["token"] > 0
    assert etcd.keys()[RECORD.encode()].lease == 0
    assert clock() < job.seconds + 0.1, "they leave at once, and not one after another"


async def test_work_that_returns_a_generator_is_an_error_and_not_recorded(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The call has run nothing."""
    job = Job()

    def generator() -> Iterator[None]:
        yield

    with pytest.raises(TypeError, match="the work has returned a generator, so nothing was run"):
        await make(etcd, clock).run_once("v42", lambda term: generator())
    assert await make(etcd, clock, "b").run_once("v42", job)


async def test_later_calls_return_at_once_and_join_no_queue(etcd: FakeEtcd, clock: VirtualClock) -> None:
    job = Job()
    manager = make(etcd, clock)
    assert await manager.run_once("v42", job)
    calls = etcd.calls.copy()
    began_at = clock()
    assert not await manager.run_once("v42", job)
    assert not await make(etcd, clock, "b").run_once("v42", job)
    assert clock() == began_at
    assert not (etcd.calls - calls)["lease_grant"]
    assert job.begun == 1


async def test_each_name_is_done_once_and_a_deleted_record_is_done_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    job = Job()
    manager = make(etcd, clock)
    for name in ("v42", "v43", "release/44 of today"):
        assert await manager.run_once(name, job)
        assert not await manager.run_once(name, job)
    etcd.delete(RECORD)
    assert await manager.run_once("v42", job)
    assert job.begun == 4


async def test_a_record_is_no_candidate(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    assert await manager.run_once("v42", Job())
    assert await manager.candidates() == []
    async with manager:
        with anyio.fail_after(1):
            await manager.wait_elected()


async def test_a_successor_without_the_event_of_the_record_looks_before_it_works(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """A member that lags delivers it late. A renewal shows that the predecessor is gone, and a read shows the record."""
    client = etcd.client("b")
    first, second, job = make(etcd, clock, "a"), make(client, clock, "b"), Job()
    results: dict[str, bool] = {}

    async def one() -> None:
        results["first"] = await first.run_once("v42", job)

    async def two() -> None:
        results["second"] = await second.run_once("v42", job)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(lambda: job.begun == 1)
        group.start_soon(two)
        await until(lambda: second.statistics().queue_position == 1)
        client.stall_watches()
        await until(lambda: recorded(etcd))
        await until(lambda: "second" in results, timeout=CONFIG.lease)
        client.resume_watches()
    assert results == {"first": True, "second": False}
    assert job.begun == 1
    assert second.statistics().terms == 1


async def test_a_record_that_an_operator_puts_ends_the_waiting_candidates_and_not_the_one_at_work(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    first, second, job = make(etcd, clock, "a"), make(etcd, clock, "b"), Job(10)
    async with anyio.create_task_group() as group:

        async def put() -> None:
            await until(lambda: second.statistics().queue_position == 1 or first.statistics().queue_position == 1)
            await until(lambda: job.begun == 1)
            etcd.put(RECORD, "by hand")
            await anyio.sleep(1)
            assert job.done == 0

        group.start_soon(put)
        assert sorted(await run_all(job, first, second)) == [False, True]
    assert job.done == 1


async def test_a_record_from_before_the_watch_was_created_is_noticed(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A watch shows nothing of what came before it: a read does."""
    other, manager = make(etcd, clock), make(etcd.client("b"), clock, "b")

    def record(call: Call) -> None:
        if call.client == "b" and call.kind == "watch" and call.arguments[0] == RECORD.encode():
            etcd.hooks.clear()
            etcd.put(RECORD, "by an operator")

    etcd.hooks.append(record)
    async with other:
        await other.wait_elected()
        with anyio.fail_after(1):
            assert not await manager.run_once("v42", Job())


async def test_the_queue_is_left_at_once_behind_a_leader_that_does_not_end(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Such as one of another library, or a frozen one."""
    other, manager = make(etcd, clock), make(etcd, clock, "b")
    async with other:
        await other.wait_elected()
        async with anyio.create_task_group() as group:

            async def put() -> None:
                await until(lambda: manager.statistics().queue_position == 1)
                etcd.put(RECORD, "by an operator")

            group.start_soon(put)
            with anyio.fail_after(1):
                assert not await manager.run_once("v42", Job())
        assert other.is_leader()
        assert len(await other.candidates()) == 1


async def test_it_is_a_campaign_like_others(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager, job = make(etcd, clock), Job()
    terms: list[Term] = []
    manager.on_elected(lambda manager, term: terms.append(term))
    async with manager:
        with pytest.raises(anyio.BusyResourceError):
            await manager.run_once("v42", job)
    terms.clear()
    assert await manager.run_once("v42", job)
    assert len(terms) == 1
    assert manager.status is LeaderStatus.OUSTED


async def test_many_that_wait_cost_etcd_one_event_and_one_revocation_each(etcd: FakeEtcd, clock: VirtualClock) -> None:
    job = Job(5)
    managers = [make(etcd, clock, str(number)) for number in range(100)]
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run_all, job, *managers))
        await until(lambda: sum(manager.statistics().queue_position is not None for manager in managers) == 100)
        await anyio.sleep(1)
        calls = etcd.calls.copy()
    spent = etcd.calls - calls
    assert spent["lease_revoke"] == 100
    assert spent["range"] < 20, "they do not read the queue that they leave"
    assert spent["lease_grant"] == 0


async def test_work_that_cannot_be_called_is_refused_before_any_request(etcd: FakeEtcd, clock: VirtualClock) -> None:
    with pytest.raises(TypeError, match="run_once"):
        await make(etcd, clock).run_once("v42", lambda: None)  # type: ignore[arg-type, misc]
    assert not etcd.calls


@pytest.mark.parametrize("name", ["", " v42", "v42\n", "v\x0042", "v\t42", "\ud800", 42, None])
@pytest.mark.parametrize("noop", [False, True])
async def test_a_wrong_name_is_refused(etcd: FakeEtcd, clock: VirtualClock, name: str, noop: bool) -> None:
    manager = NoopLeaderManager() if noop else make(etcd, clock)
    with pytest.raises(ValueError, match="name = "):
        await manager.run_once(name, Job())
    assert not etcd.calls


async def test_with_election_off_it_does_the_work_each_time(anyio_backend: object) -> None:
    manager, job = NoopLeaderManager(), Job()
    assert await manager.run_once("v42", job)
    assert await manager.run_once("v42", job)
    assert job.done == 2

    async def fail(term: Term) -> None:
        raise RuntimeError("no such table")

    with pytest.raises(RuntimeError):
        await manager.run_once("v42", fail)
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            await anyio.sleep(0.5)
            await manager.stop()

        group.start_soon(stop)
        with pytest.raises(NotLeaderError):
            await manager.run_once("v42", Job(60))
