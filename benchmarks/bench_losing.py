"""The time until a leader detects its loss, on a real etcd, and a check that no other candidate leads before.

By hand: a leader's key is deleted or overwritten, or its lease is revoked. The time is measured from before that call is
sent until `is_valid()` is False. The lease is a minute, so the watch reports the loss.

Frozen: the leader's process is stopped (SIGSTOP) past its lease while a candidate waits. The time is measured from the
end of the lease to the candidate's election. The lease ends at most one lease after the freeze. Its last confirmed
renewal shows when it ended. The process continues (SIGCONT) when the other one leads.

Every trial has a separate election. The program exits with 1 if a bound was missed.

    python -m benchmarks.bench_losing [--by-hand 20] [--frozen 10] [--at-once 5]
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import statistics
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from etcdleader import Config, EtcdLeaderManager, LeaderManager, Term
from etcdleader._etcd.api import DeleteRange, Put, Range
from etcdleader._etcd.client import EtcdClient, new_client
from etcdleader._runtime.clock import boottime
from etcdleader.testing import EtcdServer
from tests.versions.choice import choose

LOOPS = ("asyncio", "trio")
CALL_TIMEOUT = 5.0
NOTICED_WITHIN = 0.3
SUCCEEDED_WITHIN = 1.0
PATIENCE = 10.0
"""Less than ``renew`` by hand: a leader without detection by then has missed the bound anyway."""

BY_HAND = Config(enabled=True, id="bench", lease=60, renew=15, retry=1)
FROZEN = Config(enabled=True, id="bench", lease=3, renew=0.5, retry=0.25, margin=0.5)

LEADER = """
    import logging, select, sys
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager
    from etcdleader._runtime.clock import boottime
    from etcdleader.etcd3 import etcd3

    logging.disable()
    endpoint, election, backend = sys.argv[1:]
    config = Config(enabled=True, id="frozen", lease=LEASE, renew=RENEW, retry=RETRY, margin=MARGIN)

    async def main():
        async with EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election) as manager:
            term = await manager.wait_elected()
            await manager.extend(term)
            print(term.token, flush=True)
            # What stands on stdin was written while this process was frozen: the look after the loop is the first one.
            while not select.select([sys.stdin], [], [], 0)[0]:
                await anyio.sleep(0.01)
            first_look = term.is_valid() or manager.is_leader()
            age = manager.statistics().last_renewal_age
            confirmed_at = boottime() - age if age is not None else float("nan")
            written, _ = await term.transaction([etcd3.Transactions().put(election + "-data", "late")])
            print(int(first_look), confirmed_at, int(written), flush=True)

    anyio.run(main, backend=backend)
"""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        bound: Seconds that none may exceed; None where it is only shown.
        seconds: What was measured; infinite where it never came.
    """

    bound: float | None
    seconds: list[float] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return sum(self.bound is None or one <= self.bound for one in self.seconds)


@dataclass
class Bench:
    """The server and the loop of the measurements, and the results so far.

    Attributes:
        etcd: The server.
        loop: The event loop.
        rows: The measurements, by (what, loop).
        claims: For each trial, whether the claim held, by (what, loop).
    """

    etcd: EtcdServer
    loop: str = ""
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    claims: dict[tuple[str, str], list[bool]] = field(default_factory=dict)

    def took(self, what: str, seconds: float, bound: float | None) -> None:
        self.rows.setdefault((what, self.loop), Row(bound)).seconds.append(seconds)

    def held(self, what: str, *, holds: bool) -> None:
        self.claims.setdefault((what, self.loop), []).append(holds)


# By hand

Act = Callable[[EtcdClient, Term], Coroutine[Any, Any, object]]


async def delete(operator: EtcdClient, term: Term) -> None:
    await operator.txn((), [DeleteRange(term.key.encode())], timeout=CALL_TIMEOUT)


async def revoke(operator: EtcdClient, term: Term) -> None:
    await operator.lease_revoke(term.lease_id, timeout=CALL_TIMEOUT)


async def overwrite(operator: EtcdClient, term: Term) -> None:
    await operator.txn((), [Put(term.key.encode(), term.identity.encode())], timeout=CALL_TIMEOUT)


ACTS: dict[str, Act] = {
    "key deleted": delete,
    "lease revoked": revoke,
    "key overwritten": overwrite,
}


async def touch(bench: Bench, operator: EtcdClient, what: str, act: Act) -> None:
    manager = EtcdLeaderManager(bench.etcd.config, BY_HAND, uuid.uuid4().hex)
    order: list[str] = []
    over = anyio.Event()

    async def work(_manager: LeaderManager, _term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)  # it takes a while to put its tools away
            order.append("work ended")

    def ousted(_manager: LeaderManager, _term: Term) -> None:
        order.append("ousted")
        over.set()

    manager.on_elected(work)
    manager.on_ousted(ousted)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await anyio.sleep(0.03)  # the watch is created, and whatever else there is to do is done
        noticed = math.inf
        new: Term | None = None
        since = time.perf_counter()
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(act, operator, term)
                while term.is_valid():  # noqa: ASYNC110 - when `is_valid()` is False, not when a callback runs
                    await anyio.sleep(0.0005)
                noticed = time.perf_counter() - since
            await over.wait()
            # The overwritten key has no owner now. It stays in front until it is deleted.
            await delete(operator, term)
            new = await manager.wait_elected()
        first_two = order[:2]
    bench.took(f"{what} -> not valid", noticed, NOTICED_WITHIN)
    bench.held("by hand: work joined before on_ousted", holds=first_two == ["work ended", "ousted"])
    bench.held("by hand: next term's token higher", holds=new is not None and new.token > term.token)


# Frozen


async def freeze(bench: Bench, operator: EtcdClient) -> None:
    election = uuid.uuid4().hex
    source = textwrap.dedent(LEADER)
    for name in ("lease", "renew", "retry", "margin"):
        source = source.replace(name.upper(), str(getattr(FROZEN, name)))
    command = [sys.executable, "-c", source, bench.etcd.endpoints[0], election, bench.loop]
    successor = EtcdLeaderManager(bench.etcd.config, FROZEN, election)
    async with await anyio.open_process(command, stderr=None) as process:
        try:
            await _freeze(bench, operator, process, successor)
        finally:
            process.kill()


async def _freeze(bench: Bench, operator: EtcdClient, process: Process, successor: EtcdLeaderManager) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    words = BufferedByteReceiveStream(process.stdout)
    with anyio.fail_after(6 * PATIENCE):  # a few interpreters start at once
        token = int(await words.receive_until(b"\n", 1000))
    async with successor:
        while len(await successor.candidates()) < 2:  # noqa: ASYNC110 - etcd is asked
            await anyio.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222 - the kernel does it at once
        stopped_at = boottime()
        term, elected_at = None, math.inf
        with anyio.move_on_after(FROZEN.lease + PATIENCE):
            term = await successor.wait_elected()
            elected_at = boottime()
        await process.stdin.send(b"look\n")
        process.send_signal(signal.SIGCONT)
        with anyio.fail_after(PATIENCE):
            look, confirmed_at, written = (await words.receive_until(b"\n", 1000)).split()
    data = await operator.range(Range(f"{successor.election_key}-data".encode()), timeout=CALL_TIMEOUT)
    bench.took("frozen: freeze + lease -> successor leads", elected_at - stopped_at - FROZEN.lease, SUCCEEDED_WITHIN)
    bench.took("  the same from last confirmed + lease", elected_at - float(confirmed_at) - FROZEN.lease, None)
    bench.held("frozen: first check after SIGCONT is False", holds=look == b"0")
    believed_until = float(confirmed_at) + FROZEN.lease - FROZEN.margin
    bench.held("frozen: successor not before the deadline", holds=elected_at >= believed_until)
    bench.held("frozen: late guarded write refused", holds=written == b"0" and not data.kvs)
    bench.held("frozen: successor's token higher", holds=term is not None and term.token > token)


# All of it


async def measure(bench: Bench, wanted: argparse.Namespace) -> None:
    operator = new_client(bench.etcd.config)
    try:
        for _ in range(wanted.by_hand):
            for what, act in ACTS.items():
                await touch(bench, operator, what, act)
        for done in range(0, wanted.frozen, wanted.at_once):
            async with anyio.create_task_group() as group:
                for _ in range(min(wanted.at_once, wanted.frozen - done)):
                    group.start_soon(freeze, bench, operator)
    finally:
        with anyio.CancelScope(shield=True):
            await operator.aclose()


def show(bench: Bench) -> bool:
    """Print the table; returns whether every bound was kept."""
    print(f"etcd {bench.etcd.version}, one member, Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    print(f"{'':42} {'loop':8} {'n':>4} {'median':>11} {'max':>11} {'bound':>9}  kept")
    good = True
    for (what, loop), row in bench.rows.items():
        verdict, bound = "-", "-"
        if row.bound is not None:
            good = good and row.kept == len(row.seconds)
            verdict = _verdict(row.kept, len(row.seconds))
            bound = f"{row.bound * 1000:.0f} ms"
        print(
            f"{what:42} {loop:8} {len(row.seconds):4} {statistics.median(row.seconds) * 1000:8.1f} ms "
            f"{max(row.seconds) * 1000:8.1f} ms {bound:>9}  {verdict}"
        )
    for (what, loop), held in bench.claims.items():
        good = good and all(held)
        print(f"{what:42} {loop:8} {len(held):4} {'':11} {'':11} {'':9}  {_verdict(sum(held), len(held))}")
    return good


def _verdict(kept: int, of: int) -> str:
    return f"{kept} of {of} {'pass' if kept == of else 'FAIL'}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the time until a leader detects its loss.")
    parser.add_argument("--by-hand", type=int, default=20, help="trials of each kind on each loop")
    parser.add_argument("--frozen", type=int, default=10, help="trials on each loop")
    parser.add_argument("--at-once", type=int, default=5, help="the number of these that run at once")
    wanted = parser.parse_args()
    logging.disable()  # short leases are warned about, and losses are what is tried here
    print(choose())
    with EtcdServer() as etcd:
        bench = Bench(etcd)
        for bench.loop in LOOPS:
            anyio.run(measure, bench, wanted, backend=bench.loop)
        return 0 if show(bench) else 1


if __name__ == "__main__":
    sys.exit(main())
