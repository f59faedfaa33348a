"""Random schedules of advertised texts, step-down requests, moves and lost messages."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdUnavailableError, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.test_advertise import stored
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seed", range(20))
async def test_a_leader_resigns_if_and_only_if_it_was_requested(
    etcd: FakeEtcd, clock: VirtualClock, seeded: Callable[[int], None], seed: int
) -> None:
    """Its own texts, moved keys and repeated requests are no step-down requests, and hide none."""
    seeded(seed)
    rng = random.Random(seed)
    client = etcd.client()
    client.latency = (0.0, rng.choice([0.0, 0.02, 0.2]))
    manager = make(client, clock)
    terms: list[Term] = []
    requested: set[str] = set()
    manager.on_elected(lambda _, term: terms.append(term))

    async def advertise() -> None:
        try:
            await manager.advertise(rng.choice(["A", "B", "C"]))
        except EtcdUnavailableError:
            return

    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        for _ in range(60):
            await anyio.sleep(rng.choice([0, 0.01, 0.1, 0.5]))
            match rng.randrange(8):
                case 0 | 1 | 2:
                    group.start_soon(advertise)
                case 3 if (
                    rng.random() < 0.3 and (term := manager.term) is not None and term.key.encode() in etcd.keys()
                ):
                    requested.add(term.key)
                    etcd.request_step_down(term.key)
                case 4:
                    etcd.change_leader()
                case 5:
                    client.lose_answer("txn")
                case 6:
                    client.delay("txn", request=rng.choice([0.1, 0.5, 2]))
                case 7 if not client.stalled:
                    client.stall_watches()
                case _:
                    client.resume_watches()
        client.clear_faults()
        client.resume_watches()
        await anyio.sleep(3 * CONFIG.lease)
        await until(manager.is_leader)
        await manager.advertise("last")
        assert stored(etcd, manager) == "last"
        await anyio.sleep(CONFIG.lease)
        assert manager.is_leader()
        await manager.stop()
    resigned = {term.key for term in terms if term.loss_reason is LossReason.RESIGNED}
    ended = {term.key for term in terms if term.loss_reason is not LossReason.STOPPED}
    assert resigned <= requested
    assert requested <= ended
    assert not any(term.loss_reason is LossReason.DELETED for term in terms)
