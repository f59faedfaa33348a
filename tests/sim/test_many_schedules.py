"""Random faults of all kinds for more than a hundred elections in each of two or three processes.

Each election has its own checker, as if it were alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import pytest

from etcdleader import Config
from etcdleader.testing import FakeEtcd
from tests.sim.invariants import InvariantChecker
from tests.sim.schedule import ELECTION_TIMEOUT, SLOWEST, Schedule
from tests.sim.world import oldest_keys, until

pytestmark = pytest.mark.anyio

MANY = 120
VICTIMS = 20
SEEDS = range(1)
SECONDS = 30.0
CONFIG = Config(enabled=True, id="sim", lease=12, renew=3, retry=2, margin=1)
LED_AGAIN = CONFIG.lease + ELECTION_TIMEOUT + 2 * CONFIG.retry + 1
"""Seconds until an election has a leader again.

An unrenewed lease lasts for its TTL, and a new leader of etcd adds an election timeout. Every half second etcd checks
for expired leases. A candidate's next attempt is at most two timeouts away.
"""


@dataclass
class ManySchedule(Schedule):
    """Like the schedule of one election, but changes by hand hit several elections at once."""

    def how_many_processes(self) -> int:
        return self.rng.randint(2, 3)

    async def keep_checking(self) -> None:
        """Check in steps. Each election's checker also runs at its own commits and wins."""
        while True:
            oldest = oldest_keys(self.etcd)
            for checker in self.checkers.values():
                checker.check(oldest)
            assert verdicts(self.checkers) == []
            await anyio.sleep(1)

    async def recover(self) -> None:
        await until(lambda: len(self.led()) == len(self.elections), timeout=LED_AGAIN)

    def led(self) -> dict[str, int]:
        """Return the elections that have a leader, and their tokens."""
        return {
            manager.election_key: term.token
            for process in self.processes
            for manager in process.managers
            if (term := manager.term) is not None
        }

    async def take_some_away(self, many: int) -> None:
        """End some leaderships. The next in line leads those elections, and the others keep their leaders."""
        before = self.led()
        victims = self.rng.sample(self.elections, many)
        for number, election in enumerate(victims):
            self._take_away(election, lease=bool(number % 2))
        await anyio.sleep(2 * CONFIG.lease)
        after = self.led()
        assert {election for election in self.elections if before[election] != after.get(election)} == set(victims)
        assert all(after[election] > before[election] for election in victims)

    def _take_away(self, election: str, *, lease: bool) -> None:
        """Delete its leader's key, or revoke the lease."""
        key, token, lease_id = oldest_keys(self.etcd, election)[election]
        self.checkers[election].record_change_by_hand(token)
        if lease:
            self.etcd.revoke(lease_id)
        else:
            self.etcd.delete(key)


def verdicts(checkers: dict[str, InvariantChecker]) -> list[str]:
    return [f"{election}: {verdict}" for election, checker in checkers.items() for verdict in checker.verdicts]


async def run(seed: int, seconds: float, *, many: int = MANY, victims: int = VICTIMS, slowest: float = SLOWEST) -> None:
    """Play one seed until its end, or until the first violation."""
    elections = [f"election-{number}" for number in range(many)]
    async with FakeEtcd(members=3, election_timeout=ELECTION_TIMEOUT, seed=seed) as etcd:
        async with anyio.create_task_group() as group:
            schedule = ManySchedule(
                etcd, group, random.Random(seed), by_hand=True, slowest=slowest, elections=elections, config=CONFIG
            )
            looking = anyio.CancelScope()

            async def keep_checking() -> None:
                with looking:
                    await schedule.keep_checking()

            group.start_soon(keep_checking)
            await schedule.play(seconds)
            assert len(schedule.log) > seconds / 4, "it was no quiet time"
            await until(lambda: len(etcd.keys()) == many * len(schedule.processes), timeout=2 * CONFIG.lease)
            await schedule.take_some_away(victims)
            async with anyio.create_task_group() as leaving:
                for process in schedule.processes:
                    for manager in process.managers:
                        leaving.start_soon(manager.stop)
            looking.cancel()
        for checker in schedule.checkers.values():
            checker.check_counts()
        assert verdicts(schedule.checkers) == []
        await until(lambda: not etcd.leases())
        assert not etcd.keys()


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_schedule_gives_any_of_many_elections_two_leaders_and_each_recovers(
    seeded: Callable[[int], None], seed: int
) -> None:
    """Changes by hand are included. After recovery, a change to some elections affects no other election."""
    seeded(seed)
    await run(seed, SECONDS)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_schedule_of_ten_minutes_gives_any_of_twenty_elections_two_leaders(
    seeded: Callable[[int], None], seed: int
) -> None:
    """There are fewer elections, and they run for longer."""
    seeded(seed)
    await run(seed, 600, many=20, victims=4)


async def test_the_checkers_find_clocks_that_drift_by_more_than_the_margin(seeded: Callable[[int], None]) -> None:
    """The violation may be in any election. What is not promised is seen to fail."""
    seeded(0)
    with pytest.raises(ExceptionGroup) as caught:
        await run(0, 1800, many=20, slowest=0.5)
    found = str(caught.value.exceptions)
    assert any(wrong in found for wrong in ("two leaders", "leads, but the oldest key is", "etcd keeps its lease"))
