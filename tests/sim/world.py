"""Managers on a fake etcd, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from etcdleader import Config, EtcdLeaderManager, LeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualTimeLoop

ELECTION = "jobs"
CONFIG = Config(enabled=True, id="sim", lease=10, renew=2, retry=1, margin=1)
"""Valid for 9 s after a request was sent. Two lost responses in a row do not cost the leadership."""


def make(
    etcd: FakeEtcd | FakeClient,
    clock: Callable[[], float],
    name: str = "a",
    *,
    election: str = ELECTION,
    config: Config = CONFIG,
) -> EtcdLeaderManager:
    """Return a manager, by default with its own client in the network."""
    client = etcd.client(name) if isinstance(etcd, FakeEtcd) else etcd
    return EtcdLeaderManager(client, config, election, clock=clock)


@asynccontextmanager
async def leading(
    etcd: FakeEtcd | FakeClient, clock: Callable[[], float]
) -> AsyncIterator[tuple[EtcdLeaderManager, Term]]:
    """Yield a manager that is alone in its election, and the term that it has won."""
    manager = make(etcd, clock)
    async with manager:
        yield manager, await manager.wait_elected()


def block_the_loop(seconds: float) -> None:
    """Let time pass in which no task runs: a call that blocks, or a process that is stopped."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio.testing

        virtual = trio.lowlevel.current_clock()
        assert isinstance(virtual, trio.testing.MockClock)
        virtual.jump(seconds)
    else:
        assert isinstance(loop, VirtualTimeLoop)
        loop._jumping.time += seconds


async def until(holds: Callable[[], Any], timeout: float = 60, *, step: float = 0.005) -> None:
    """Wait, in steps of virtual time, until a condition holds. Use small steps if the exact time matters."""
    with anyio.fail_after(timeout):
        while not holds():
            await anyio.sleep(step)


Oldest = tuple[str, int, int]
"""A key, its create_revision and its lease."""


def oldest_keys(etcd: FakeEtcd, election: str | None = None) -> dict[str, Oldest]:
    """Return the oldest key of each election, or of one election. Copies nothing else, because checks call it often."""
    found: dict[str, Oldest] = {}
    for kv in etcd._cluster.store.keys.values():
        name = kv.key.decode().rpartition("/")[0]
        if name not in found and election in (None, name):
            found[name] = (kv.key.decode(), kv.create_revision, kv.lease)
            if election is not None:
                break
    return found


class Recorder:
    """Records the calls of a manager's work and callbacks."""

    def __init__(self, manager: LeaderManager) -> None:
        self.entries: list[str] = []
        self.terms: list[Term] = []
        self.errors: list[Exception] = []
        manager.on_elected(self._elected)
        manager.on_ousted(self._ousted)
        manager.on_error(lambda manager, error: self.errors.append(error))

    async def _elected(self, manager: LeaderManager, term: Term) -> None:
        self.terms.append(term)
        self.entries.append("elected")
        try:
            await anyio.sleep_forever()
        finally:
            self.entries.append("valid at cancellation" if term.is_valid() else "work cancelled")

    def _ousted(self, manager: LeaderManager, term: Term) -> None:
        self.entries.append(f"ousted: {term.loss_reason.name if term.loss_reason else None}")
