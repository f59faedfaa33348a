"""A key without a lease below the prefix is a candidate that never leaves. No candidate behind it can lead."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from etcdleader import EtcdLeaderManager
from etcdleader.etcd3 import etcd3
from etcdleader.fencing import fence_operations
from etcdleader.model import HealthState
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, leading, make, until

pytestmark = pytest.mark.anyio

BLOCKER = f"{ELECTION}/last"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def ready(manager: EtcdLeaderManager) -> bool:
    health = manager.health()
    assert health.live
    if not health.ready:
        assert health.state is HealthState.STANDBY
    return health.ready


async def test_a_candidate_behind_a_key_without_a_lease_warns_once_and_is_not_ready_until_it_is_deleted(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    etcd.put(BLOCKER, "x")
    manager = make(etcd, clock)
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        await anyio.sleep(5 * CONFIG.lease)
        assert not manager.is_leader()
        assert not ready(manager)
        assert f"'{BLOCKER}'" in manager.health().reason
        (warning,) = warnings(caplog)
        assert f"'{BLOCKER}'" in warning
        etcd.revoke(next(iter(etcd.leases())))  # another candidacy finds the same key
        await until(lambda: manager.statistics().queue_position)
        await anyio.sleep(1)
        assert not ready(manager)
        etcd.delete(BLOCKER)
        await manager.wait_elected()
        assert ready(manager)
        await manager.stop()
    assert warnings(caplog) == [warning]
    assert "no campaign" in manager.health().reason


async def test_a_key_without_a_lease_is_found_behind_a_leader_too(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After that leader has gone, no candidate would lead."""
    async with leading(etcd, clock):
        etcd.put(BLOCKER, "x")
        waiting, last = make(etcd, clock, "b"), make(etcd, clock, "c")
        async with waiting:
            await until(lambda: waiting.statistics().queue_position)
            assert not ready(waiting)
            async with last:
                await until(lambda: last.statistics().queue_position)
                assert not ready(last)
                assert f"'{BLOCKER}'" in last.health().reason
                etcd.delete(BLOCKER)
                await until(lambda: ready(waiting) and ready(last))
        assert len(warnings(caplog)) == 2, "each process has its own log"


async def test_each_of_many_candidates_behind_a_key_without_a_lease_reports_it(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The candidate right behind the key may belong to another program, or its log may be out of reach."""
    etcd.put(BLOCKER, "x")
    managers = [make(etcd, clock, name) for name in "abcdefgh"]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await anyio.sleep(2 * CONFIG.lease)
        assert not any(map(ready, managers))
        assert all(f"'{BLOCKER}'" in manager.health().reason for manager in managers)
        await managers.pop(3).stop()
        await anyio.sleep(1)
        assert len(warnings(caplog)) == 8
        etcd.delete(BLOCKER)
        await until(lambda: all(map(ready, managers)), timeout=1)
        assert managers[0].is_leader()
        for manager in managers:
            await manager.stop()
    assert len(warnings(caplog)) == 8


async def test_of_two_keys_without_a_lease_the_second_is_reported_when_the_first_is_deleted(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    other = f"{ELECTION}/other"
    etcd.put(other, "x")
    etcd.put(BLOCKER, "x")
    first, last = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with first, last:
        await until(lambda: first.statistics().queue_position and last.statistics().queue_position)
        await until(lambda: not ready(first) and not ready(last))
        etcd.delete(BLOCKER)
        await until(lambda: all(other in manager.health().reason for manager in (first, last)), timeout=1)
        etcd.delete(other)
        await until(lambda: ready(first) and ready(last), timeout=1)
    assert len(warnings(caplog)) == 4


async def test_a_candidate_key_that_is_taken_off_its_lease_blocks_the_queue(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it is on a lease again, it no longer blocks the queue."""
    etcd.grant(77, 3600)
    etcd.put(BLOCKER, "another library's", lease=77)
    manager = make(etcd, clock)
    async with manager:
        await until(lambda: manager.statistics().queue_position)
        assert ready(manager)
        etcd.put(BLOCKER, "another library's")
        await until(lambda: not ready(manager), timeout=0.1)
        etcd.put(BLOCKER, "another library's", lease=77)
        await until(lambda: ready(manager), timeout=0.1)
    assert len(warnings(caplog)) == 1


Put = etcd3.transactions.Put
REFUSED: dict[str, list[Any]] = {
    "a name": [Put(BLOCKER, "x")],
    "bytes": [Put(BLOCKER.encode(), "x")],
    "below a folder": [Put(f"{ELECTION}/a/b", "x")],
    "the prefix itself": [Put(f"{ELECTION}/", "x")],
    "after others": [Put("data", "x"), etcd3.transactions.Get("data"), Put(BLOCKER, "x")],
    "a fence": fence_operations(f"{ELECTION}/fence", 7),
}


@pytest.mark.parametrize("operations", REFUSED.values(), ids=REFUSED)
async def test_a_terms_transaction_cannot_put_a_key_below_the_prefix(
    etcd: FakeEtcd, clock: VirtualClock, operations: list[Any]
) -> None:
    async with leading(etcd, clock) as (_, term):
        before = etcd.revision
        for success, failure in ((operations, []), ([], operations)):
            with pytest.raises(ValueError, match=f"below the prefix .*{ELECTION}/"):
                await term.transaction(success, failure)
        with pytest.raises(ValueError, match="below the prefix"):
            await term.transaction([Put(term.key, "x")])
        assert etcd.revision == before
        assert term.is_valid()


async def test_a_terms_transaction_may_put_outside_the_prefix_and_read_and_delete_below_it(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    etcd.put(f"{ELECTION}.data", "x")
    async with leading(etcd, clock) as (_, term):
        etcd.put(BLOCKER, "x")
        operations = [
            Put(ELECTION, "x"),
            Put(f"{ELECTION}-data", "x"),
            Put(f"other/{ELECTION}/x", "x"),
            *fence_operations(ELECTION, term.token),
            etcd3.transactions.Get(BLOCKER),
            etcd3.transactions.Delete(BLOCKER),
        ]
        assert (await term.transaction(operations))[0]
        assert term.is_valid()
    assert BLOCKER.encode() not in etcd.keys()
