"""The metrics and the health of a manager."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from etcdleader import EtcdLeaderManager, LeaderManager, LossReason, Term
from etcdleader.metrics import NullMetrics
from etcdleader.model import Health, HealthState
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.moving import moved
from tests.sim.scrape import Scrape
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin
SILENCE = CONFIG.renew + 2 * CONFIG.retry


@pytest.fixture
async def scrape(clock: VirtualClock) -> Scrape:
    return Scrape(clock)


@asynccontextmanager
async def sampling(manager: LeaderManager) -> AsyncIterator[list[Health]]:
    """Sample the manager's health ten times per second."""
    seen: list[Health] = []

    async def look() -> None:
        while True:
            seen.append(manager.health())
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        yield seen
        group.cancel_scope.cancel()


# Numbers


async def test_moves_to_another_lease_are_counted(etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape) -> None:
    async with scrape.watching(make(etcd, clock)) as manager:
        term = await manager.wait_elected()
        assert scrape("lease_moves_total") == 0
        for number in (1, 2):
            await moved(etcd, term)
            assert scrape("lease_moves_total") == number


async def test_the_leader_metric_is_computed_at_scrape_time(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    """The event loop runs nothing between the two scrapes. A stored flag would still be set."""
    manager = scrape.watching(make(etcd, clock))
    assert scrape("is_leader") == 0
    async with manager:
        term = await manager.wait_elected()
        assert (scrape("is_leader"), scrape("token")) == (1, term.token)
        assert scrape("lease_remaining_seconds") == pytest.approx(TRUSTED)
        clock.advance(TRUSTED + 0.1)
        assert (scrape("is_leader"), scrape("token"), scrape("lease_remaining_seconds")) == (0, 0, None)


async def test_terms_losses_and_drains_are_counted_by_reason(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    manager = scrape.watching(make(etcd, clock))

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        await work_until_cancelled(0.3)

    async with manager:
        term = await manager.wait_elected()
        etcd.delete(term.key)
        await until(lambda: manager.is_leader() and manager.statistics().terms == 2)
        await manager.resign()
        await until(manager.is_leader)
    assert scrape("terms_total") == 3
    lost = {reason: scrape("losses_total", reason=reason.value) for reason in LossReason}
    assert {reason for reason, count in lost.items() if count} == {
        LossReason.DELETED,
        LossReason.RESIGNED,
        LossReason.STOPPED,
    }
    assert None not in lost.values(), "each is there from the beginning, for rates to start from"
    assert scrape("drain_seconds_count") == 3
    assert scrape("drain_seconds_sum") == pytest.approx(0.9, abs=0.05)


async def test_renewals_and_the_minimum_remaining_time_are_measured(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    client = etcd.client()
    manager = scrape.watching(make(client, clock))
    async with manager:
        await manager.wait_elected()
        await until(lambda: manager.statistics().renewals == 2)
        assert scrape("renewal_duration_seconds_count") == 2
        assert scrape("renewal_remaining_seconds_sum") == pytest.approx(2 * (TRUSTED - CONFIG.renew), abs=0.1)
        assert scrape("renewal_failures_total") == 0
        client.partition()
        await until(lambda: (scrape("lease_remaining_seconds") or 0) < 3)
        client.heal()
        await until(lambda: manager.statistics().renewals == 3)
        least = scrape("min_remaining_seconds")
        assert least is not None
        assert 0 < least < 3
        assert scrape("renewal_remaining_seconds_bucket", le="3.0") == 1
        assert scrape("renewal_failures_total") == manager.statistics().renewal_failures > 0
        assert scrape("etcd_errors_total", kind="unavailable") == manager.statistics().etcd_errors > 0
        assert scrape("etcd_errors_total", kind="refused") == 0


async def test_renewals_of_a_waiting_candidate_do_not_change_the_leaders_metrics(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    """The remaining time of a lease without leadership is not a minimum worth reporting."""
    leader, manager = make(etcd, clock), scrape.watching(make(etcd, clock, "b"))
    async with leader:
        await leader.wait_elected()
        async with manager:
            await until(lambda: manager.statistics().renewals == 2)
            assert scrape("renewal_duration_seconds_count") == 2
            assert scrape("renewal_remaining_seconds_count") == 0
            assert scrape("queue_position") == 1
        assert scrape("queue_position") is None


async def test_a_follower_counts_the_time_without_a_known_leader(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    """It has recorded a leader while its key exists behind the leader's, at most until its own lease ends."""
    leader, client = make(etcd, clock), etcd.client("b")
    manager = scrape.watching(make(client, clock))
    async with leader:
        await leader.wait_elected()
        assert scrape("leader_known") is None
        async with manager:
            await until(lambda: manager.statistics().queue_position == 1)
            await anyio.sleep(3 * CONFIG.lease)
            assert scrape("leader_known") == 1
            assert scrape("leaderless_seconds_total") == pytest.approx(0, abs=0.01)
            client.partition()
            await anyio.sleep(5 * CONFIG.lease)
            assert scrape("leader_known") == 0
            client.heal()
            await until(lambda: scrape("leader_known") == 1)
            blind = scrape("leaderless_seconds_total")
            assert blind is not None
            assert 4 * CONFIG.lease - 1 < blind < 5 * CONFIG.lease
            await leader.resign()
            await until(manager.is_leader)
            await anyio.sleep(CONFIG.lease)
            assert scrape("leaderless_seconds_total") == pytest.approx(blind, abs=0.01), "it was elected at once"
        await anyio.sleep(CONFIG.lease)
        assert scrape("leader_known") is None
        assert scrape("leaderless_seconds_total") == pytest.approx(blind, abs=0.1), (
            "a manager that does not watch counts no time"
        )


async def test_one_object_counts_for_many_elections(etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape) -> None:
    first = scrape.watching(make(etcd, clock, election="one"))
    second = scrape.watching(make(etcd, clock, "b", election="two"))
    async with first, second:
        await first.wait_elected()
        await second.wait_elected()
        await second.resign()
        assert [scrape("is_leader", name) for name in ("one", "two")] == [1, 0]
        assert [scrape("losses_total", name, reason="resigned") for name in ("one", "two")] == [0, 1]


class Broken(NullMetrics):
    """Raises wherever it can."""

    def renewed(self, duration: float, remaining: float) -> None:
        raise RuntimeError("disk full")

    def elected(self, term: Term) -> None:
        raise ValueError("no such label")


async def test_metrics_that_raise_are_logged_and_end_no_leadership(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape, caplog: pytest.LogCaptureFixture
) -> None:
    """They run during the renewals. An exception there would end the renewal of every lease."""
    manager = EtcdLeaderManager(etcd.client(), CONFIG, ELECTION, clock=clock, metrics=Broken())
    scrape.watching(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(5 * CONFIG.lease)
        assert term.is_valid()
    complaints = [record for record in caplog.records if "Broken" in record.message]
    assert [(record.levelno, "elected raised ValueError" in record.message) for record in complaints] == [
        (logging.ERROR, True)
    ]
    assert (scrape("renewal_duration_seconds_count") or 0) > 10, "the other metrics are still called"


# Health


def states(seen: list[Health]) -> list[tuple[HealthState, bool, bool]]:
    """Return state, live and ready: each change once."""
    changes: list[tuple[HealthState, bool, bool]] = []
    for health in seen:
        if not changes or changes[-1] != (health.state, health.live, health.ready):
            changes.append((health.state, health.live, health.ready))
    return changes


async def test_a_standby_is_live_and_ready_and_becomes_a_leader(etcd: FakeEtcd, clock: VirtualClock) -> None:
    leader, manager = make(etcd, clock), make(etcd, clock, "b")
    async with leader:
        await leader.wait_elected()
        assert states([manager.health()]) == [(HealthState.NOT_CAMPAIGNING, True, False)]
        async with manager:
            await until(lambda: manager.health().ready)
            async with sampling(manager) as seen:
                await anyio.sleep(3 * CONFIG.lease)
            assert states(seen) == [(HealthState.STANDBY, True, True)]
            await leader.resign()
            await until(manager.is_leader)
            async with sampling(manager) as seen:
                await anyio.sleep(3 * CONFIG.lease)
            assert states(seen) == [(HealthState.LEADING, True, True)]
    assert states([manager.health()]) == [(HealthState.NOT_CAMPAIGNING, True, False)]


async def test_work_that_outlives_its_lease_makes_it_wedged_until_it_ends(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    manager = make(client, clock)

    @manager.on_elected
    async def work(manager: LeaderManager, term: Term) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * CONFIG.lease)

    async with manager:
        term = await manager.wait_elected()
        client.partition()
        await until(lambda: not term.is_valid())
        over_at = anyio.current_time()
        assert manager.health().state is HealthState.STANDBY
        await until(lambda: not manager.health().live, timeout=CONFIG.lease)
        assert anyio.current_time() - over_at == pytest.approx(CONFIG.margin / 2, abs=0.05)
        assert str(term.token) in manager.health().reason
        client.heal()
        await until(lambda: manager.health().live)
        assert not term.is_valid()
        await until(manager.is_leader)
        await manager.stop()


@pytest.mark.parametrize(
    ("blocked", "state"), [(SILENCE - 0.1, HealthState.LEADING), (SILENCE + 0.1, HealthState.WEDGED)]
)
async def test_a_leader_whose_loop_is_blocked_is_wedged_before_its_lease_is_over(
    etcd: FakeEtcd, clock: VirtualClock, blocked: float, state: HealthState
) -> None:
    """Between two renewals the loop reports nothing. Only another thread can detect that a renewal is long overdue."""
    manager = make(etcd, clock)
    async with manager:
        await manager.wait_elected()
        await until(lambda: manager.statistics().renewals == 1)
        clock.advance(blocked)
        assert manager.is_leader()
        assert manager.health().state is state
        await anyio.sleep(1)
        assert manager.health().state is HealthState.LEADING


async def test_a_standby_whose_loop_is_blocked_is_first_not_ready_then_wedged(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    leader, manager = make(etcd, clock), make(etcd, clock, "b")
    async with leader:
        await leader.wait_elected()
        async with manager:
            await until(lambda: manager.statistics().renewals == 1)
            clock.advance(SILENCE + 0.1)
            assert states([manager.health()]) == [(HealthState.STANDBY, True, False)]
            clock.advance(2 * CONFIG.lease - SILENCE)
            assert states([manager.health()]) == [(HealthState.WEDGED, False, False)]
            await anyio.sleep(2 * CONFIG.lease)
            assert manager.health().live


@pytest.mark.parametrize("again", [False, True])
async def test_a_campaign_that_ended_with_an_error_has_failed_until_another_begins(
    etcd: FakeEtcd, clock: VirtualClock, again: bool
) -> None:
    manager = make(etcd, clock)

    async def work(term: Term) -> None:
        await anyio.sleep(1)
        raise ValueError("postgres://admin:hunter2@db")

    with pytest.raises(ValueError, match="hunter2"):
        await manager.run(work)
    await anyio.sleep(10 * CONFIG.lease)
    health = manager.health()
    assert states([health]) == [(HealthState.FAILED, False, False)]
    assert "ValueError" in health.reason
    assert "hunter2" not in health.reason
    if again:
        async with manager:
            await manager.wait_elected()
            assert manager.health().state is HealthState.LEADING
        assert manager.health().state is HealthState.NOT_CAMPAIGNING


async def test_a_leader_cut_off_from_etcd_is_ready_as_long_as_it_leads(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its work does not need etcd. Its clients should not be cut off before the lease is over."""
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        await manager.wait_elected()
        client.partition()
        async with sampling(manager) as seen:
            await anyio.sleep(TRUSTED - 0.5)
            assert states(seen) == [(HealthState.LEADING, True, True)]
            assert "renewals fail" in seen[-1].reason
            await anyio.sleep(10 * CONFIG.lease)
        assert states(seen) == [(HealthState.LEADING, True, True), (HealthState.STANDBY, True, False)]
        client.heal()
        await until(manager.is_leader)
        await manager.stop()


@pytest.mark.parametrize("outage", ["cut off", "etcd down"])
async def test_a_standby_without_etcd_is_not_ready_but_live(etcd: FakeEtcd, clock: VirtualClock, outage: str) -> None:
    """A restart would not restore etcd, and it would restart all candidates at once."""
    leader, client = make(etcd, clock), etcd.client("b")
    manager = make(client, clock)
    lose: Callable[[], None] = client.partition if outage == "cut off" else etcd.stop
    back: Callable[[], None] = client.heal if outage == "cut off" else etcd.start
    async with leader:
        await leader.wait_elected()
        async with manager:
            await until(lambda: manager.health().ready)
            lose()
            lost_at = anyio.current_time()
            async with sampling(manager) as seen:
                await until(lambda: not manager.health().ready)
                assert anyio.current_time() - lost_at <= SILENCE
                await anyio.sleep(20 * CONFIG.lease)
                assert all(health.live for health in seen)
                back()
                await until(lambda: manager.health().ready)


async def test_no_fault_of_the_network_makes_a_manager_with_a_running_loop_and_cancellable_work_wedged(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """A false alarm restarts healthy leaders."""
    client = etcd.client()
    manager, other = make(client, clock), make(etcd, clock, "b")
    async with manager, other, sampling(manager) as seen:
        for step in range(40):
            client.partition()
            await anyio.sleep(0.37 * step)
            client.heal()
            await anyio.sleep(0.7 * (step % 7))
            await (manager if step % 5 == 0 else other).resign()
            if step % 7 == 0:
                etcd.change_leader()
    assert len(seen) > 3000
    assert {health.state for health in seen} <= {HealthState.LEADING, HealthState.STANDBY}
    assert manager.statistics().terms > 3
    assert manager.statistics().losses[LossReason.EXPIRED] > 1
