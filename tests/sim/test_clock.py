"""The clock of a lease's deadline: which one it is, its drift from etcd's, and the effect of a stopped process.

A manager's clock is injected. Here it runs at another rate, or continues while the loop's clock stands still.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager, LeadershipLostError, LossReason
from etcdleader._managers import elector as product
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, Recorder, block_the_loop, leading, make, until

pytestmark = pytest.mark.anyio

MINUTE = Config(enabled=True, id="sim", lease=60, retry=5, renew=15)
"""The defaults: a margin of 3 s is 5 % of the lease."""


async def seconds_of_two_leaders(etcd: FakeEtcd, rate: float, config: Config) -> float:
    """Cut off a leader whose clock runs at ``rate``.

    Return for how long it still leads while another candidate leads already.
    """
    client = etcd.client("cut off")
    first = make(client, VirtualClock(rate), config=config)
    second = make(etcd, VirtualClock(), "successor", config=config)
    async with first:
        term = await first.wait_elected()
        async with second:
            await until(lambda: first.statistics().renewals >= 3, timeout=5 * config.renew / rate, step=0.1)
            client.partition()
            await second.wait_elected()
            began = anyio.current_time()
            await until(lambda: not first.is_leader())
            assert not term.is_valid()
            client.heal()
            return anyio.current_time() - began


@pytest.mark.parametrize("rate", [0.95, 1.0, 1.05, 1.1])
async def test_a_clock_that_drifts_by_less_than_the_margin_is_safe(etcd: FakeEtcd, rate: float) -> None:
    """A fast clock only ends the term earlier. A slow clock uses up the margin."""
    assert await seconds_of_two_leaders(etcd, rate, MINUTE) == 0


async def test_a_larger_margin_allows_a_slower_clock(etcd: FakeEtcd) -> None:
    assert await seconds_of_two_leaders(etcd, 0.91, CONFIG) == 0


async def test_a_clock_that_drifts_by_more_than_the_margin_gives_two_leaders(etcd: FakeEtcd) -> None:
    """This is not promised. It shows that the tests above can fail.

    57 s on a clock that is 10 % slow are 63.3 s on etcd's clock.
    """
    assert await seconds_of_two_leaders(etcd, 0.9, MINUTE) > 2.5


@pytest.mark.parametrize("rate", [0.9, 1.1])
async def test_clock_drift_does_not_end_a_healthy_term(etcd: FakeEtcd, rate: float) -> None:
    """Every renewal sets a new deadline, so only the drift since the last one counts."""
    manager = make(etcd, VirtualClock(rate), config=MINUTE)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(3600)
        assert term.is_valid()
        assert manager.statistics().renewals == pytest.approx(3600 * rate / 15, rel=0.02)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
async def test_a_clock_slower_than_the_loops_does_not_make_the_loop_spin(etcd: FakeEtcd, rate: float) -> None:
    """The rest is slept on the loop's clock, and so shrinks from check to check.

    Once it is too short to advance the loop's time, the next check would find the same rest. An error from the clock
    here costs the term.
    """
    slow = VirtualClock(rate)
    asked: Counter[float] = Counter()

    def clock() -> float:
        asked[anyio.current_time()] += 1
        assert asked[anyio.current_time()] < 1000, "time stands still"
        return slow()

    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(100 * CONFIG.renew / rate)
        assert term.is_valid()
        assert 95 <= manager.statistics().renewals <= 100


# The loop's clock stands still in suspend, the manager's clock does not.


async def test_a_leader_that_was_suspended_for_less_than_its_lease_renews_within_a_tick(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The loop's timer for the next renewal has not advanced; the ticker notices."""
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.1)
        clock.advance(8)
        assert term.is_valid()
        await anyio.sleep(CONFIG.margin / 2 + 0.01)
        assert manager.statistics().renewals == 1
        assert term.remaining() > 8


async def test_a_suspended_leaders_work_is_cancelled_within_a_tick(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its scope's deadline is on the loop's clock, and far away."""
    manager = make(etcd, clock)
    async with manager:
        with pytest.raises(LeadershipLostError) as caught:
            async with manager.leading():
                await anyio.sleep(0.1)
                clock.advance(20)
                woke_up = anyio.current_time()
                await anyio.sleep_forever()
        assert anyio.current_time() - woke_up <= CONFIG.margin / 2 + 0.01
        assert caught.value.term.loss_reason is LossReason.EXPIRED


async def test_a_candidate_that_was_suspended_past_its_lease_does_not_win_on_it(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """In etcd its key may still exist and be the oldest. It is not trusted, and a new key replaces it."""
    first, second = make(etcd, VirtualClock()), make(etcd, clock, "suspended")
    async with first:
        await first.wait_elected()
        async with second:
            await until(lambda: len(etcd.keys()) == 2)
            await anyio.sleep(0.5)
            old = list(etcd.keys())[1].decode()
            clock.advance(20)
            await first.stop()
            term = await second.wait_elected()
            assert term.key != old
            assert old.encode() not in list(etcd.keys())


# The whole process is stopped.


async def test_a_process_that_was_stopped_for_less_than_its_lease_still_leads(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    async with leading(etcd, clock) as (manager, term):
        await anyio.sleep(0.5)
        block_the_loop(CONFIG.lease - CONFIG.margin - 0.6)
        assert term.is_valid()
        await anyio.sleep(0.1)
        assert manager.statistics().renewals == 1, "it renews at once, before the lease is over"
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_a_process_stopped_past_its_lease_is_not_leader_on_the_first_check_and_does_no_further_work(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """One step may run before the cancellation reaches it, which is why tokens exist. A second step does not run."""
    manager = make(etcd, clock)
    steps: list[bool] = []

    async def work(manager: object, term: object) -> None:
        while True:
            await anyio.sleep(0.1)
            steps.append(leader.is_leader())

    leader = manager
    manager.on_elected(work)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(1.05)
        assert steps
        assert all(steps)
        steps.clear()
        block_the_loop(CONFIG.lease + 5)
        assert not manager.is_leader()
        assert term.remaining() <= 0
        await until(lambda: "ousted: EXPIRED" in recorder.entries, timeout=1)
        assert len(steps) <= 1
        assert not any(steps)
        assert (await manager.wait_elected()).token > term.token


# The wall clock


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_jump_of_the_wall_clock_changes_displayed_times_only(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """`elected_at` is for display. In other libraries a step of the wall clock ends or extends leadership."""
    jumped = datetime.now(UTC) + timedelta(days=365 * years)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Jumping:
            return cls.fromtimestamp(jumped.timestamp(), UTC)

    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        assert abs(term.elected_at - datetime.now(UTC)) < timedelta(hours=1)
        assert term.elected_at.tzinfo is UTC
        before = term.remaining()
        monkeypatch.setattr(time, "time", jumped.timestamp)
        monkeypatch.setattr(product, "datetime", Jumping)
        assert term.remaining() == before
        await anyio.sleep(60)
        assert term.is_valid()
        await manager.resign()
        again = await manager.wait_elected()
        assert abs(again.elected_at - jumped) < timedelta(hours=1)
        assert again.remaining() == pytest.approx(CONFIG.lease - CONFIG.margin, abs=0.1)


async def test_the_default_clock_counts_suspend(etcd: FakeEtcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """`time.monotonic` and both loops' clocks stand still in suspend."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("no CLOCK_BOOTTIME here")
    manager = EtcdLeaderManager(etcd.client(), CONFIG, ELECTION)
    # On a machine that never slept the two clocks are equal, so the test simulates a suspend.
    real = time.clock_gettime
    slept = 1e6
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: real(clock) + (slept if clock == time.CLOCK_BOOTTIME else 0)
    )
    before = real(time.CLOCK_BOOTTIME)
    assert before + slept <= manager._clock() <= real(time.CLOCK_BOOTTIME) + slept
