"""Ten thousand leases on one connection: when their keep-alives and reads are sent."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader._etcd.api import (
    Compares,
    Header,
    KeepAlive,
    KeepAliveResponses,
    KeyValue,
    LeaseGranted,
    Operation,
    Operations,
    Range,
    RangeResult,
    TxnResult,
)
from etcdleader._lease.lease_deadline import Timing
from etcdleader._lease.leased_key import LeasedKey
from etcdleader._lease.raft_terms import RaftTerms
from etcdleader._lease.renewer import LeaseRenewer
from etcdleader._lease.session import Session
from etcdleader._runtime.clock import Clock
from etcdleader._runtime.limiter import FairLimiter
from etcdleader.testing.virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

MANY = 10_000
PER_READ = 128
TIMING = Timing(lease=60, retry=5, renew=15, margin=3)
HEADER = Header(1, 1, 1, 1)


class Silent:
    """A listener that only records failed renewals."""

    failures = 0

    def renewal_failed(self, error: Exception, remaining: float) -> None:
        self.failures += 1

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


class AllIsWell:
    """A connection to an etcd that renews every lease, and in which every key exists."""

    endpoint_number = 0

    def __init__(self) -> None:
        self.api = self
        self.uniform = random.Random(0).uniform
        self.raft_terms = RaftTerms()
        self.renewer = LeaseRenewer(self)  # type: ignore[arg-type]
        self.call_limiter = FairLimiter(64)
        self.proposals = 0
        self.listener = Silent()
        self.rounds: list[tuple[float, int]] = []
        self.reads: list[int] = []

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        return LeaseGranted(lease_id, ttl, HEADER)

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        self.rounds.append((anyio.current_time(), len(lease_ids)))
        await anyio.sleep(0.002)
        return KeepAliveResponses({one: KeepAlive(one, int(TIMING.lease), HEADER) for one in lease_ids})

    async def learn_raft_term(self, key: bytes, *, timeout: float) -> None:
        self.raft_terms.received(HEADER.raft_term)

    async def propose(self, key: bytes, *, timeout: float) -> Header:
        self.proposals += 1
        return HEADER

    async def txn(
        self, compare: Compares, operations: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        self.reads.append(len(operations))
        await anyio.sleep(0.002)
        results = tuple(RangeResult((_key(operation),), 1, HEADER) for operation in operations)
        return TxnResult(True, results, HEADER)

    @asynccontextmanager
    async def leases(self, clock: VirtualClock, many: int) -> AsyncIterator[list[Session]]:
        """Yield this many leases, granted at the same moment and kept alive."""
        sessions = [
            Session(self, TIMING, clock=Clock(clock), listener=self.listener, owner=self.listener, readable=b"e/")  # type: ignore[arg-type]
            for _ in range(many)
        ]
        async with anyio.create_task_group() as group:
            group.start_soon(self.renewer.run)
            for session in sessions:
                await session.open()
            for session in sessions:
                session.own = LeasedKey(b"e/%x" % session.lease_id, b"me", 7, session.lease_id)
                session.keep_alive()
            yield sessions
            group.cancel_scope.cancel()

    def busiest(self, window: float) -> int:
        """Return the highest number of keep-alives that were sent within this many seconds."""
        most = first = inside = 0
        for at, count in self.rounds:
            inside += count
            while self.rounds[first][0] < at - window:
                inside -= self.rounds[first][1]
                first += 1
            most = max(most, inside)
        return most


def _key(operation: Operation) -> KeyValue:
    assert isinstance(operation, Range)
    lease_id = int(operation.key.partition(b"/")[2], 16)
    return KeyValue(operation.key, b"me", 7, 7, 1, lease_id)


async def test_ten_thousand_leases_that_began_together_do_not_leave_in_one_burst(clock: VirtualClock) -> None:
    """This holds at first and later. They are sent in rounds that fit into one read each, one after another.

    Each lease is renewed once per interval.
    """
    etcd = AllIsWell()
    async with etcd.leases(clock, MANY) as sessions:
        for _ in range(5):
            await anyio.sleep(TIMING.renew)
        assert all(session.is_valid() for session in sessions)
        assert min(session.lease_remaining() for session in sessions) > TIMING.lease - TIMING.margin - TIMING.renew - 1
    assert etcd.listener.failures == 0
    assert max(etcd.reads) <= PER_READ
    assert 4 * MANY <= sum(count for _, count in etcd.rounds) <= 6 * MANY
    assert etcd.busiest(0.004) <= 2 * PER_READ


async def test_ten_thousand_leases_that_began_together_are_spread_over_their_interval(clock: VirtualClock) -> None:
    """After some renewals, a tenth of the interval holds no more than a third of them."""
    etcd = AllIsWell()
    async with etcd.leases(clock, MANY):
        await anyio.sleep(4 * TIMING.renew)
        etcd.rounds.clear()
        await anyio.sleep(2 * TIMING.renew)
    assert etcd.busiest(TIMING.renew / 10) <= MANY / 3
