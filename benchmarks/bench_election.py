"""How long it takes to be elected, and to hand over, beside `etcdctl elect` and beside the bare calls to etcd.

Acquire: from the first request for an idle election to the word that we lead. Hand over: from one's resignation to the
next one's word that it leads; the two have a connection each. All run in turns on one embedded etcd, so that what else
the machine does falls on all alike. The bare calls are what etcd itself costs: nothing can be faster.

    python benchmarks/bench_election.py [rounds]
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader._core.queue import election_prefix, prefix_end
from etcdleader._etcd.api import Compare, EtcdApi, Put, Range, WatchCreated, WatchEvents, WatchMessage
from etcdleader._etcd.gateway import EtcdGateway
from etcdleader.testing import EtcdServer

ROUNDS = 40
TIME_LIMIT = 50.0
CALL_TIMEOUT = 5.0
TTL = 60
SETTLE = (0.02, 0.06)
"""Seconds between standing in the queue and the resignation, so that every watch stands and no phase is locked."""

BARE, OURS, ETCDCTL = "bare calls", "etcdleader", "etcdctl elect"
ACQUIRE, ACQUIRE_COLD, HAND_OVER = "acquire", "acquire, new connection", "hand over"
ETCDCTL_START = "(etcdctl's own start)"

CONFIG = Config(enabled=True, lease=TTL)


@dataclass
class Bench:
    """What is measured on, and what was measured so far.

    Attributes:
        version: That of etcd.
        config: How to reach it.
        etcdctl: Its etcdctl.
        one: A connection.
        other: Another one.
        seconds: The measurements, by (what, who).
    """

    version: str
    config: EtcdConfig
    etcdctl: str
    one: EtcdApi
    other: EtcdApi
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def took(self, what: str, who: str, since: float, until: float) -> None:
        self.seconds[what, who].append(until - since)


async def settle() -> None:
    await anyio.sleep(random.uniform(*SETTLE))


# etcdleader


async def acquire(bench: Bench, client: EtcdConfig | EtcdApi, what: str) -> None:
    manager = EtcdLeaderManager(client, CONFIG, uuid.uuid4().hex)
    since = time.perf_counter()
    async with manager:
        await manager.wait_elected()
        bench.took(what, OURS, since, time.perf_counter())


async def hand_over(bench: Bench) -> None:
    election = uuid.uuid4().hex
    leader = EtcdLeaderManager(bench.one, CONFIG, election)
    waiting = EtcdLeaderManager(bench.other, CONFIG, election)
    async with leader:
        await leader.wait_elected()
        async with anyio.create_task_group() as group:
            await group.start(waiting.campaign)
            await settle()
            since = time.perf_counter()
            group.start_soon(leader.resign)
            await waiting.wait_elected()
            bench.took(HAND_OVER, OURS, since, time.perf_counter())
            await waiting.stop()


# The bare calls


async def join(api: EtcdApi, election: str) -> tuple[int, bytes]:
    """Stand in the queue, in as few calls as etcd lets one; returns lease and key."""
    lease_id = random.getrandbits(62) + 1
    prefix = election_prefix(election)
    key = prefix + f"{lease_id:x}".encode()
    await api.lease_grant(TTL, lease_id, timeout=CALL_TIMEOUT)
    await api.txn(
        [Compare(key, "create", 0)],
        [
            Put(key, b"bench", lease=lease_id),
            Range(prefix, prefix_end(prefix), limit=2, order="create-descending"),
        ],
        timeout=CALL_TIMEOUT,
    )
    return lease_id, key


async def acquire_bare(bench: Bench) -> None:
    since = time.perf_counter()
    lease_id, _ = await join(bench.one, uuid.uuid4().hex)
    bench.took(ACQUIRE, BARE, since, time.perf_counter())
    await bench.one.lease_revoke(lease_id, timeout=CALL_TIMEOUT)


async def acquire_bare_cold(bench: Bench) -> None:
    since = time.perf_counter()
    api = EtcdGateway(bench.config)
    try:
        lease_id, _ = await join(api, uuid.uuid4().hex)
        bench.took(ACQUIRE_COLD, BARE, since, time.perf_counter())
        await api.lease_revoke(lease_id, timeout=CALL_TIMEOUT)
    finally:
        await api.aclose()


async def hand_over_bare(bench: Bench) -> None:
    created, deleted = anyio.Event(), anyio.Event()

    def sink(message: WatchMessage) -> None:
        if isinstance(message, WatchCreated):
            created.set()
        elif isinstance(message, WatchEvents):
            deleted.set()

    election = uuid.uuid4().hex
    lease_id, key = await join(bench.one, election)
    next_lease_id, _ = await join(bench.other, election)
    watch = bench.other.watch(key, sink=sink, timeout=CALL_TIMEOUT)
    await created.wait()
    await settle()
    since = time.perf_counter()
    async with anyio.create_task_group() as group:

        async def resign() -> None:
            await bench.one.lease_revoke(lease_id, timeout=CALL_TIMEOUT)

        group.start_soon(resign)
        await deleted.wait()
        bench.took(HAND_OVER, BARE, since, time.perf_counter())
    watch.close()
    await bench.other.lease_revoke(next_lease_id, timeout=CALL_TIMEOUT)


# etcdctl


@asynccontextmanager
async def etcdctl_elect(bench: Bench, election: str) -> AsyncIterator[tuple[Process, BufferedByteReceiveStream]]:
    """A candidate; it writes its key and its value when it leads, and resigns on SIGINT."""
    env = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(bench.config.endpoints)}
    async with await anyio.open_process([bench.etcdctl, "elect", election, "bench"], env=env) as process:
        assert process.stdout is not None
        try:
            yield process, BufferedByteReceiveStream(process.stdout)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                with anyio.CancelScope(shield=True):
                    await process.wait()


async def acquire_and_hand_over_by_etcdctl(bench: Bench) -> None:
    election = uuid.uuid4().hex
    prefix = election_prefix(election)
    since = time.perf_counter()
    async with etcdctl_elect(bench, election) as (leader, words):
        await words.receive_until(b"\n", 1000)
        bench.took(ACQUIRE_COLD, ETCDCTL, since, time.perf_counter())
        async with etcdctl_elect(bench, election) as (_, next_words):
            queue = Range(prefix, prefix_end(prefix), keys_only=True)
            while (await bench.one.range(queue, timeout=CALL_TIMEOUT)).count < 2:  # noqa: ASYNC110 - etcd is asked
                await anyio.sleep(0.005)
            await settle()
            since = time.perf_counter()
            leader.send_signal(signal.SIGINT)
            await next_words.receive_until(b"\n", 1000)
            bench.took(HAND_OVER, ETCDCTL, since, time.perf_counter())


async def start_etcdctl(bench: Bench) -> None:
    since = time.perf_counter()
    await anyio.run_process([bench.etcdctl, "version"])
    bench.took(ACQUIRE_COLD, ETCDCTL_START, since, time.perf_counter())


# All of it


async def measure(rounds: int) -> Bench:
    async with EtcdServer() as etcd:
        one, other = EtcdGateway(etcd.config), EtcdGateway(etcd.config)
        bench = Bench(etcd.version, etcd.config, str(etcd.etcdctl), one, other)
        try:
            ends_at = time.perf_counter() + TIME_LIMIT
            for number in range(rounds + 1):
                if number == 1:
                    bench.seconds.clear()  # the first round opens connections and loads modules
                if time.perf_counter() > ends_at:
                    break
                await acquire_bare(bench)
                await acquire(bench, bench.one, ACQUIRE)
                await acquire_bare_cold(bench)
                await acquire(bench, bench.config, ACQUIRE_COLD)
                await start_etcdctl(bench)
                await hand_over_bare(bench)
                await hand_over(bench)
                await acquire_and_hand_over_by_etcdctl(bench)
        finally:
            with anyio.CancelScope(shield=True):
                await one.aclose()
                await other.aclose()
        return bench


def show(bench: Bench) -> None:
    print(f"etcd {bench.version}, one member, Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    print(f"{'':24} {'':22} {'n':>4} {'median':>9} {'10 %':>9} {'90 %':>9}   times the bare calls")
    for what in (ACQUIRE, ACQUIRE_COLD, HAND_OVER):
        bare = statistics.median(bench.seconds[what, BARE])
        for (of, who), seconds in bench.seconds.items():
            if of != what:
                continue
            deciles = statistics.quantiles(seconds, n=10)
            median = statistics.median(seconds)
            print(
                f"{what:24} {who:22} {len(seconds):4} {median * 1000:6.2f} ms {deciles[0] * 1000:6.2f} ms "
                f"{deciles[-1] * 1000:6.2f} ms {median / bare:10.1f}"
            )


if __name__ == "__main__":
    show(anyio.run(measure, max(2, int(sys.argv[1])) if len(sys.argv) > 1 else ROUNDS))
