"""Several managers of one election in one process: one number represents all of them."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import Config
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.scrape import Scrape
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scrape(clock: VirtualClock) -> Scrape:
    return Scrape(clock)


async def test_two_managers_of_one_election_are_counted_together(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    """Two leaders in one process are shown as 2, like two in two processes."""
    first, second = scrape.watching(make(etcd, clock)), scrape.watching(make(etcd, clock, "b"))
    async with first, second:
        await until(lambda: first.is_leader() or second.is_leader())
        await until(lambda: scrape("health", state="standby") == 1)
        assert (scrape("is_leader"), scrape("health", state="leading"), scrape("queue_position")) == (1, 1, 0)


async def test_of_two_leaders_the_higher_token_and_the_shorter_lease_are_shown(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    """The managers use two clusters by mistake. An alert on the sum of the leaders detects that."""
    async with FakeEtcd() as other:
        other.put("something", "else")
        behind = VirtualClock()
        first, second = scrape.watching(make(etcd, clock)), scrape.watching(make(other, behind, "b"))
        async with first, second:
            terms = [await manager.wait_elected() for manager in (first, second)]
            assert terms[0].token < terms[1].token
            behind.advance(1)
            left = [term.remaining() for term in terms]
            assert left[1] < left[0]
            assert scrape("is_leader") == 2
            assert scrape("token") == terms[1].token
            assert scrape("lease_remaining_seconds") == pytest.approx(left[1])
            clock.advance(2)
            assert scrape("lease_remaining_seconds") == pytest.approx(left[0] - 2)


async def test_time_without_a_leader_is_counted_once_for_many_candidates(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape
) -> None:
    etcd.stop()
    managers = [scrape.watching(make(etcd, clock, name)) for name in ("a", "b")]
    async with managers[0], managers[1]:
        await anyio.sleep(10)
        assert scrape("leader_known") == 0
        assert scrape("leaderless_seconds_total") == pytest.approx(10, abs=0.1)


async def test_a_leader_known_to_one_manager_is_known(etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape) -> None:
    cut_off = etcd.client("b")
    cut_off.partition()
    first, second = scrape.watching(make(etcd, clock)), scrape.watching(make(cut_off, clock))
    async with first, second:
        await first.wait_elected()
        await anyio.sleep(CONFIG.lease)
        assert second.statistics().queue_position is None
        assert scrape("leader_known") == 1


async def test_the_durations_are_shown_as_configured(etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape) -> None:
    """Alerts compute with them."""
    config = Config(enabled=True, lease=60, renew=15, retry=4, margin=6)
    manager = scrape.watching(make(etcd, clock, config=config))
    shown = {name: scrape(f"{name}_seconds") for name in ("lease", "renew", "retry", "margin")}
    assert shown == {"lease": 60, "renew": 15, "retry": 4, "margin": 6}
    del manager  # it is counted only while a manager has it
