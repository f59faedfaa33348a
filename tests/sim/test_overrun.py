"""Work that continues past the end of its lease, and a loop that is blocked."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdLeaderError, LeaderManager, LeadershipLostError, LeaderStatus, LossReason, Term
from etcdleader.metrics import NullMetrics
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin


class Overruns(NullMetrics):
    """Counts the overruns that are reported."""

    def __init__(self) -> None:
        self.terms: list[Term] = []

    def overrun(self, term: Term) -> None:
        self.terms.append(term)


def stubborn(manager: LeaderManager, seconds: Callable[[], float]) -> None:
    """Give the manager work that runs on for some seconds after its cancellation, but only the first time."""

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if manager.statistics().terms == 1:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(seconds())


async def test_an_overrun_is_reported_once_everywhere_and_the_lease_is_not_released(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported half a margin after the deadline: in the log, to on_error, in metric and statistics.

    A revocation while the work runs would make another candidate the leader sooner than etcd itself does.
    """
    client = etcd.client()
    manager, successor = make(client, clock), make(etcd, clock, "b")
    manager._metrics.add(metrics := Overruns(), manager)
    errors: list[tuple[float, EtcdLeaderError]] = []
    manager.on_error(lambda manager, error: errors.append((anyio.current_time(), error)))
    stubborn(manager, lambda: 3 * CONFIG.lease)
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        term = await manager.wait_elected()
        await group.start(successor.campaign)
        await anyio.sleep(0.5)
        client.partition()
        await until(lambda: not term.is_valid())
        deadline = anyio.current_time()
        client.heal()
        await until(lambda: metrics.terms)
        assert anyio.current_time() - deadline == pytest.approx(CONFIG.margin / 2, abs=0.05)
        assert etcd.keys().get(term.key.encode()) is not None, "reported before the lease can pass on"
        next_term = await successor.wait_elected()
        assert etcd.calls["lease_revoke"] == 0, "it ran out by itself"
        assert manager.status is LeaderStatus.ELECTED, "its work has not ended"
        await anyio.sleep(CONFIG.lease)
        assert next_term.is_valid()
        assert list(etcd.keys()) == [next_term.key.encode()], "no new candidacy beside the old work"
        await until(lambda: manager.status is LeaderStatus.OUSTED)
        await until(lambda: len(etcd.keys()) == 2)
        group.cancel_scope.cancel()
    assert metrics.terms == [term]
    assert manager.statistics().overruns == 1
    assert [str(term.token) in str(error) for _, error in errors if "still runs" in str(error)] == [True]
    reports = [record for record in caplog.records if "still runs" in record.message]
    assert [record.levelno for record in reports] == [logging.ERROR]


@pytest.mark.parametrize("way", ["stop", "resign"])
async def test_renewals_end_one_lease_after_the_cancellation(etcd: FakeEtcd, clock: VirtualClock, way: str) -> None:
    """So work that never ends cannot keep the leadership forever."""
    manager, successor = make(etcd, clock, "a"), make(etcd, clock, "b")
    stubborn(manager, lambda: 10 * CONFIG.lease)
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        term = await manager.wait_elected()
        await group.start(successor.campaign)
        await anyio.sleep(3)
        asked_at = anyio.current_time()
        group.start_soon(getattr(manager, way))
        await until(lambda: term.loss_reason is not None)
        assert not term.is_valid()
        await successor.wait_elected()
        held = anyio.current_time() - asked_at
        assert 2 * CONFIG.lease - CONFIG.renew <= held <= 2 * CONFIG.lease + 1
        assert manager.statistics().overruns == 1
        group.cancel_scope.cancel()
    assert term.loss_reason is (LossReason.STOPPED if way == "stop" else LossReason.RESIGNED)


@pytest.mark.parametrize("place", ["plain callback", "async callback", "leading"])
async def test_a_loop_that_is_blocked_until_before_the_deadline_ends_no_term(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    manager = make(etcd, clock)

    def block() -> None:
        clock.advance(TRUSTED - 2)

    async def block_later(*arguments: object) -> None:
        await anyio.sleep(0.5)
        block()

    if place == "plain callback":
        manager.on_elected(lambda manager, term: block())
    elif place == "async callback":
        manager.on_elected(block_later)
    async with manager:
        term = await manager.wait_elected()
        if place == "leading":
            async with manager.leading():
                block()
        await anyio.sleep(3 * CONFIG.lease)
        assert term.is_valid()
        assert manager.statistics().terms == 1
        assert manager.statistics().overruns == 0
        least = manager.statistics().min_remaining
        assert least is not None
        assert least <= 2


@pytest.mark.parametrize("place", ["on_elected", "work", "leading"])
async def test_after_a_loop_was_blocked_past_the_deadline_the_first_check_is_false_and_the_work_is_cancelled(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    """There is no flag that another task would have had to clear meanwhile."""
    manager = make(etcd, clock)
    results: list[str] = []
    blocked: list[int] = []

    async def work(term: Term) -> None:
        if blocked:
            await anyio.sleep_forever()
        await anyio.sleep(0.5)
        blocked.append(term.token)
        clock.advance(TRUSTED)
        results.append(f"{manager.is_leader()} {manager.term} {term.is_valid()} {term.remaining() <= 0}")
        try:
            await anyio.sleep(1)
        finally:
            results.append(f"goes on: {term.loss_reason is None}")

    async def lead() -> None:
        with pytest.raises(LeadershipLostError):
            async with manager.leading() as term:
                await work(term)

    if place == "on_elected":
        manager.on_elected(lambda manager, term: work(term))
    async with anyio.create_task_group() as group:
        if place == "work":
            group.start_soon(manager.run, work)
        else:
            group.start_soon(manager.campaign)
        if place == "leading":
            group.start_soon(lead)
        await until(lambda: manager.statistics().terms == 2, timeout=CONFIG.lease)
        await manager.stop()
    assert results == ["False None False True", "goes on: False"]
    assert manager.statistics().losses == {LossReason.EXPIRED: 1, LossReason.STOPPED: 1}


@pytest.mark.parametrize("act", ["delete", "revoke"])
async def test_work_overruns_half_a_margin_after_another_candidate_could_lead(
    etcd: FakeEtcd, clock: VirtualClock, act: str
) -> None:
    """It is not reported at the deadline, which is far away. Another candidate can lead from that moment on."""
    manager = make(etcd, clock)
    manager._metrics.add(metrics := Overruns(), manager)
    stubborn(manager, lambda: CONFIG.lease / 2)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(1)
        if act == "delete":
            etcd.delete(term.key)
        else:
            etcd.revoke(term.lease_id)
        taken_at = anyio.current_time()
        await until(lambda: metrics.terms)
        # The ticker also checks every half margin.
        assert CONFIG.margin / 2 <= anyio.current_time() - taken_at <= CONFIG.margin + 0.01
        await manager.stop()
        assert anyio.current_time() - taken_at >= CONFIG.lease / 2


async def test_work_that_ends_within_half_a_margin_of_its_loss_is_no_overrun(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)
    stubborn(manager, lambda: CONFIG.margin / 2 - 0.1)
    async with manager:
        term = await manager.wait_elected()
        etcd.delete(term.key)
        await anyio.sleep(CONFIG.lease)
        assert manager.statistics().losses == {LossReason.DELETED: 1}
        assert manager.statistics().overruns == 0
