"""Helpers for the tests of work that is done once."""

from __future__ import annotations

import anyio

from etcdleader import EtcdLeaderManager, Term
from etcdleader._etcd.api import Put
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from tests.sim.world import ELECTION

__all__ = ("RECORD", "Job", "puts", "recorded", "run_all")

RECORD = f"{ELECTION}@done/v42"


class Job:
    """Work that takes a second, and counts."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.begun = 0
        self.done = 0

    async def __call__(self, term: Term) -> str:
        self.begun += 1
        await anyio.sleep(self.seconds)
        self.done += 1
        return "a result"


async def run_all(job: Job, *managers: EtcdLeaderManager) -> list[bool]:
    """Return the result of each call, in the order of the managers."""
    results: dict[int, bool] = {}

    async def run(number: int) -> None:
        results[number] = await managers[number].run_once("v42", job)

    async with anyio.create_task_group() as group:
        for number in range(len(managers)):
            group.start_soon(run, number)
    return [results[number] for number in range(len(managers))]


def recorded(etcd: FakeEtcd) -> bool:
    return RECORD.encode() in etcd.keys()


def puts(call: Call) -> bool:
    """Return whether this request writes the record."""
    return call.kind == "txn" and any(isinstance(one, Put) and one.key == RECORD.encode() for one in call.arguments[1])
