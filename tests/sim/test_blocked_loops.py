"""An event loop is blocked past the deadline: the lease has expired, whichever event is received first afterwards."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdUnavailableError, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, block_the_loop, leading, make, until

pytestmark = pytest.mark.anyio


def blocked_for(caplog: pytest.LogCaptureFixture) -> list[float]:
    """Return the seconds in the warnings about a blocked loop."""
    found = [re.search(r"event loop did not run for at least ([\d.]+) s", record.message) for record in caplog.records]
    return [float(match[1]) for match in found if match is not None]


async def test_a_deletion_received_after_the_expiry_counts_as_an_expired_lease(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch wakes the loop together with the ticker, and may run first."""
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.7)
        clock.advance(CONFIG.lease)
        etcd.revoke(term.lease_id)
        await until(lambda: manager.statistics().losses, timeout=0.2, step=0.001)
        assert term.loss_reason is LossReason.EXPIRED
        assert manager.statistics().losses == {LossReason.EXPIRED: 1}
    (seconds,) = blocked_for(caplog)
    assert CONFIG.lease - 1 <= seconds <= CONFIG.lease


async def test_a_blocked_loop_is_reported_with_the_time(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.7)
        block_the_loop(CONFIG.lease + 3)
        await until(lambda: not term.is_valid())
        await until(lambda: manager.statistics().terms == 2)
        assert manager.statistics().losses == {LossReason.EXPIRED: 1}
        (seconds,) = blocked_for(caplog)
        assert CONFIG.lease + 2 <= seconds <= CONFIG.lease + 3
        (record,) = [record for record in caplog.records if "did not run" in record.message]
        assert record.levelno == logging.WARNING
        assert manager.identity in record.message


async def test_a_waiting_candidate_reports_the_same(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etcdleader")
    waiting_clock = VirtualClock()
    async with leading(etcd, clock):
        waiting = make(etcd, waiting_clock, "b")
        async with waiting:
            await until(lambda: waiting.statistics().queue_position)
            await anyio.sleep(0.7)
            waiting_clock.advance(CONFIG.lease + 3)
            etcd.revoke(list(etcd.leases())[-1])
            await until(lambda: [record for record in caplog.records if "lost its candidacy" in record.message])
    assert [record.message for record in caplog.records if "lost its candidacy" in record.message] == [
        f"{waiting.identity} lost its candidacy (EXPIRED); rejoining the queue"
    ]
    assert len(blocked_for(caplog)) == 1


async def test_a_candidate_that_finds_a_foreign_key_past_its_deadline_lost_its_lease_by_expiry(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The response to its join is lost. It reads its key long after etcd has deleted it."""
    caplog.set_level(logging.INFO, "etcdleader")
    client = etcd.client("a")
    client.lose_answer("txn")
    manager = make(client, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with manager:
        await until(etcd.keys)
        (key,) = etcd.keys()
        clock.advance(CONFIG.lease)
        etcd.put(key, "a stranger's")
        await until(lambda: [record for record in caplog.records if "lost its candidacy" in record.message])
        etcd.delete(key)
        await manager.wait_elected()
    assert [record.message for record in caplog.records if "lost its candidacy" in record.message] == [
        f"{manager.identity} lost its candidacy (EXPIRED); rejoining the queue"
    ]
    assert [type(error) for error in errors] == [EtcdUnavailableError], "only of the response that was lost"


@pytest.mark.parametrize("way", ["stop", "resign"])
async def test_a_leader_that_stops_or_resigns_past_the_deadline_lost_by_expiry(
    etcd: FakeEtcd, clock: VirtualClock, way: str
) -> None:
    async with leading(etcd, clock) as (manager, term):
        clock.advance(CONFIG.lease)
        await getattr(manager, way)()
    assert term.loss_reason is LossReason.EXPIRED


def delete(etcd: FakeEtcd, term: Term) -> None:
    etcd.delete(term.key)


def stop_etcd(etcd: FakeEtcd, term: Term) -> None:
    etcd.stop()


@pytest.mark.parametrize(("act", "reason"), [(delete, LossReason.DELETED), (stop_etcd, LossReason.EXPIRED)])
async def test_a_running_loop_is_not_reported_as_blocked(
    etcd: FakeEtcd,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    act: Callable[[FakeEtcd, Term], None],
    reason: LossReason,
) -> None:
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.7)
        block_the_loop(0.5)
        await anyio.sleep(0.7)
        act(etcd, term)
        await until(lambda: manager.statistics().losses)
        assert term.loss_reason is reason
        etcd.start()
    assert blocked_for(caplog) == []


async def test_an_earlier_block_of_the_loop_is_not_reported_as_the_cause_of_a_later_loss(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.7)
        block_the_loop(3)
        await anyio.sleep(3)
        assert term.is_valid()
        etcd.stop()
        await until(lambda: manager.statistics().losses)
        assert term.loss_reason is LossReason.EXPIRED
        etcd.start()
    assert blocked_for(caplog) == []
