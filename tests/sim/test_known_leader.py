"""The leader that a manager received last: from its own reads, watches and observers, without I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import pytest

from etcdleader import LeaderManager
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import moved
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio

ADDRESS = "http://10.0.0.1:8000"


def known(manager: LeaderManager) -> list[tuple[str, int]]:
    return [] if manager.known_leader is None else [(manager.known_leader.key, manager.known_leader.lease_id)]


def names(manager: LeaderManager, leader: LeaderManager) -> bool:
    """Return whether ``leader`` leads, and is the one that ``manager`` received last."""
    known_leader, term = manager.known_leader, leader.term
    return known_leader is not None and term is not None and known_leader.token == term.token


async def test_nothing_is_known_before_anything_was_received(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    assert (manager.known_leader, manager.known_leader_at) == (None, None)
    assert await manager.leader() is None
    assert manager.known_leader is None
    received_at = manager.known_leader_at
    assert received_at is not None
    assert abs(datetime.now(UTC) - received_at) < timedelta(minutes=1)


async def test_candidates_know_the_leader_and_what_it_advertises(etcd: FakeEtcd, clock: VirtualClock) -> None:
    leader, second, third = (make(etcd, clock, name) for name in "abc")
    async with anyio.create_task_group() as group:
        for manager in (leader, second, third):
            await group.start(manager.campaign)
        for manager in (leader, second, third):
            assert manager.known_leader == await leader.leader()
        await leader.advertise(ADDRESS)
        await until(lambda: second.known_leader.advertised == ADDRESS)  # type: ignore[union-attr]
        assert leader.known_leader == second.known_leader
        await leader.stop()
        assert leader.known_leader is None
        await until(second.is_leader)
        await anyio.sleep(0.1)
        assert second.known_leader == await second.leader()
        assert second.known_leader is not None
        assert second.known_leader.identity == second.identity
        assert third.known_leader != second.known_leader, "it watches only its predecessor, and reads nothing"
        assert await third.leader() == third.known_leader == second.known_leader
        group.cancel_scope.cancel()


async def test_a_waiting_candidate_that_observes_names_each_leader_that_follows(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """As README.md recommends. The same candidate without an observer names the first leader for as long as it waits."""
    first, second, third, observing, waiting = (make(etcd, clock, name) for name in "abcde")

    async def follow() -> None:
        async with observing.observe() as leaders:
            async for _ in leaders:
                pass

    async with anyio.create_task_group() as group:
        for manager in (first, second, third, observing, waiting):
            await group.start(manager.campaign)
        gone = await first.leader()
        group.start_soon(follow)
        for old, new in ((first, second), (second, third)):
            await old.stop()
            await until(new.is_leader)
            await until(partial(names, observing, new))
            await anyio.sleep(3 * CONFIG.lease)
            assert waiting.known_leader == gone
        group.cancel_scope.cancel()


async def test_an_observer_counts_the_leader_as_known(etcd: FakeEtcd, clock: VirtualClock) -> None:
    observer = make(etcd, clock, "b")
    async with leading(etcd, clock) as (manager, term), observer.observe() as leaders:
        assert await anext(leaders) == observer.known_leader
        assert observer.known_leader is not None
        assert observer.known_leader.token == term.token
        await manager.resign()
        assert await anext(leaders) is None
        assert observer.known_leader is None


async def test_a_leader_counts_itself_as_known_until_it_has_left(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        received_at = manager.known_leader_at
        assert received_at is not None
        await anyio.sleep(CONFIG.lease)
        assert manager.known_leader_at is not None
        assert manager.known_leader_at > received_at, "each renewal reads the key"
        await moved(etcd, term)
        assert known(manager) == [(term.key, term.lease_id)]
        await manager.resign()
        assert known(manager) == []
