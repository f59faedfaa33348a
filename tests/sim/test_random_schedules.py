"""Hours of random faults of all kinds at once, with an independent checker.

A seed determines the faults, the latencies, the pauses of the product and, on trio, the order of tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest

from etcdleader.testing import FakeEtcd
from tests.helpers.virtual_run import run_virtually
from tests.sim.invariants import InvariantChecker
from tests.sim.schedule import ELECTION_TIMEOUT, ETCDS_MISTAKES, SLOWEST, Schedule
from tests.sim.world import ELECTION, until

pytestmark = pytest.mark.anyio

SEEDS = range(6)
HOURS = 0.15


@dataclass
class Record:
    """The results of one schedule."""

    checker: InvariantChecker
    log: list[tuple[float, str]]
    commits: list[tuple[float, int, str]]


async def run(
    seed: int, seconds: float, *, by_hand: bool, slowest: float = SLOWEST, mistakes: bool = ETCDS_MISTAKES
) -> Record:
    """Play one seed."""
    async with FakeEtcd(members=3, election_timeout=ELECTION_TIMEOUT, seed=seed) as etcd:
        async with anyio.create_task_group() as group:
            schedule = Schedule(etcd, group, random.Random(seed), by_hand, slowest, mistakes=mistakes)
            checker = schedule.checkers[ELECTION]
            looking = anyio.CancelScope()

            async def keep_checking() -> None:
                with looking:
                    await checker.keep_checking()

            group.start_soon(keep_checking)
            await schedule.play(seconds)
            assert sum(process.leads for process in schedule.processes) == 1, "all is well again"
            assert len(etcd.keys()) == len(schedule.processes)
            for process in schedule.processes:
                await process.managers[0].stop()
            looking.cancel()
            checker.check_counts()
        await until(lambda: not etcd.leases())
        assert not etcd.keys()
        commits = [
            (commit.time, commit.revision, " ".join(event.type for event in commit.events)) for commit in etcd.history
        ]
        return Record(checker, schedule.log, commits)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_schedule_gives_two_leaders(seeded: Callable[[int], None], seed: int) -> None:
    """Every other schedule also changes keys and leases by hand."""
    seeded(seed)
    by_hand = bool(seed % 2)
    record = await run(seed, 3600 * HOURS, by_hand=by_hand)
    assert record.checker.verdicts == []
    assert len(record.checker.tokens) > 15, "it was no quiet time"
    assert by_hand or not record.checker.excused


async def test_the_checker_finds_clocks_that_drift_by_more_than_the_margin(seeded: Callable[[int], None]) -> None:
    """The checker detects what is not promised. So the absence of violations elsewhere proves something."""
    seeded(0)
    record = await run(0, 3600 * HOURS, by_hand=False, slowest=0.5)
    assert any("two leaders" in one or "etcd keeps its lease" in one for one in record.checker.verdicts)


@pytest.mark.parametrize("mistakes", [True, False])
async def test_etcds_own_mistakes_are_made_only_on_request(seeded: Callable[[int], None], mistakes: bool) -> None:
    """The test above checks that the election survives them."""
    seeded(0)
    record = await run(0, 900, by_hand=False, mistakes=mistakes)
    for fault in ("led, lags: True", "silent: True", "catches up by snapshot", "restarts with a snapshot"):
        assert any(fault in what for _, what in record.log) is mistakes, fault


def test_a_seed_is_a_schedule(seeded: Callable[[int], None], anyio_backend: tuple[Any, Any]) -> None:
    """So a schedule that fails can be repeated."""
    records = []
    for _ in range(2):
        seeded(7)
        records.append(run_virtually(partial(run, 7, 200, by_hand=True), anyio_backend[0]))
    first, second = records
    assert len(first.log) > 30
    assert first.log == second.log
    assert first.checker.tokens == second.checker.tokens
    assert first.commits == second.commits
