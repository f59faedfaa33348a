"""Random hand-overs between five candidates, with moves, losses and restarts in between."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdLeaderManager, EtcdUnavailableError, HandOverError, LeadershipLostError
from etcdleader._election.hand_over import clear_way
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, make, oldest_keys, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seed", range(12))
async def test_random_hand_overs_never_make_two_leaders(
    etcd: FakeEtcd, clock: VirtualClock, seeded: Callable[[int], None], seed: int
) -> None:
    """Moves, losses and restarts happen in between. In the end, the queue is whole and one candidate leads."""
    seeded(seed)
    rng = random.Random(seed)
    managers = []
    for number in range(5):
        client = etcd.client(f"c{number}")
        client.latency = (0.0, rng.choice([0.0, 0.01, 0.1]))
        managers.append(make(client, clock))

    def check(_: object) -> None:
        leaders = [one.identity for one in managers if one.is_leader()]
        assert len(leaders) <= 1, leaders
        if leaders:
            (key, token, _lease) = oldest_keys(etcd, ELECTION)[ELECTION]
            (term,) = [one.term for one in managers if one.is_leader()]
            assert term is not None
            assert (term.key, term.token) == (key, token)

    async def hand_over(manager: EtcdLeaderManager, to: str) -> None:
        try:
            await manager.resign(to=to)
        except (HandOverError, LeadershipLostError, EtcdUnavailableError):
            return

    async def operate() -> None:
        async with make(etcd, clock, "operator")._connect() as connection:
            try:
                await clear_way(connection, ELECTION, rng.choice(managers).identity, timeout=CONFIG.retry)
            except (HandOverError, EtcdUnavailableError):
                return

    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        for _ in range(60):
            await anyio.sleep(rng.choice([0, 0.01, 0.05, 0.3, 1]))
            check(None)
            leader = next((one for one in managers if one.is_leader()), None)
            keys = list(etcd.keys())
            match rng.randrange(8):
                case 0 | 1 | 2 if leader is not None:
                    group.start_soon(hand_over, leader, rng.choice(managers).identity)
                case 3:
                    group.start_soon(operate)
                case 4 if keys:
                    etcd.request_step_down(rng.choice(keys))
                case 5:
                    etcd.change_leader()
                case 6 if keys[1:]:
                    etcd.delete(
                        rng.choice(keys[1:])
                    )  # a leader's key that is deleted by hand is missed for a round trip
                case 7:
                    restarted = rng.choice(managers)
                    await restarted.stop()
                    await group.start(restarted.campaign)
                case _:
                    await anyio.sleep(0.5)
        await anyio.sleep(2 * CONFIG.lease)
        check(None)
        await until(lambda: sum(one.is_leader() for one in managers) == 1)
        assert len(etcd.keys()) == len(managers)
        for manager in managers:
            await manager.stop()
    assert not etcd.keys()
