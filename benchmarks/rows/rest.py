"""The cost of elections at rest: one leader with one waiting candidate, and many elections led by one process.

All peers rest at the same time, each on a separate etcd. The kernel reports their resources. Timed steps (all acquired,
all handed over) are done by one peer at a time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import asked, noise, processes
from benchmarks.lab import Bench, Lab, new_election
from benchmarks.registry import MANY, Peer
from benchmarks.workers import Worker, WorkerError

LEASE, RENEW, RETRY = 60, 15.0, 5.0
REST = 60.0
"""Four of etcdleader's renewals, or three of the Go client's, which renews every third of the lease."""
QUICK_REST = 16.0
MEGA, KILO, NANO = 1 << 20, 1 << 10, 1e-9


@dataclass
class Used:
    """The resources of one peer that leads some elections.

    Attributes:
        before: Its process's memory in bytes, connected and idle.
        acquired: Seconds until it held all of them.
        handed_over: Seconds from the first resignation until a second process held all of them.
        resident: Memory at rest in bytes, of the leader and of the waiting process.
        threads: Their threads: all, and those outside gRPC.
        cpu: Percent of a processor at rest, for each of them.
        asked: The requests to etcd at rest.
        lost: Elections that were lost at rest.
        failed: The reason why it was not handed over.
    """

    before: int = 0
    acquired: float = 0.0
    handed_over: float | None = None
    resident: list[int] = field(default_factory=list)
    threads: list[tuple[int, int]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    asked: asked.Counters = field(default_factory=dict)
    lost: int = 0
    failed: str = ""


@dataclass
class Holder:
    """One peer with its elections, on its etcd."""

    peer: Peer
    size: int
    bench: Bench
    election: str = field(default_factory=new_election)
    used: Used = field(default_factory=Used)
    workers: list[Worker] = field(default_factory=list)

    def worker(self) -> Worker:
        worker = self.bench.worker(self.peer, lease=LEASE, renew=RENEW, retry=RETRY, reads=True)
        self.workers.append(worker)
        return worker

    def acquire(self) -> None:
        """Hold them all; one alone has another process waiting for it."""
        holder = self.worker()
        if self.size == 1:
            holder.ask("stand", election=self.election)
            holder.ask("wait", name=self.election)
            self.worker().ask("stand", election=self.election)
            return
        holder.ask("connect")
        time.sleep(0.2)
        self.used.before = processes.resident(holder.pid)
        took = holder.ask("hold", election=self.election, many=self.size)
        self.used.acquired = (took["done"] - took["began"]) * NANO

    def hand_over(self) -> None:
        """To a second process, which stands in all of them before the first one leaves any."""
        successor = self.worker()
        successor.ask("connect")
        successor.ask("stand_many", election=self.election, many=self.size)
        time.sleep(1)
        elected = successor.begin("wait_many", election=self.election, many=self.size)
        called = self.workers[0].ask("drop_many", election=self.election, many=self.size)["called"]
        self.used.handed_over = (elected.result(120)["last"] - called) * NANO


def rest(holders: Sequence[Holder], seconds: float) -> None:
    """Let them all be for a while, and see what each uses."""
    time.sleep(2)  # what follows the last election is no rest
    for holder in holders:
        holder.used.cpu = [-processes.cpu(worker.pid) * NANO for worker in holder.workers]
        holder.used.asked = asked.received(holder.bench.etcd.endpoints)
    time.sleep(seconds)
    for holder in holders:
        used = holder.used
        used.cpu = [
            100 * (before + processes.cpu(worker.pid) * NANO) / seconds
            for before, worker in zip(used.cpu, holder.workers, strict=True)
        ]
        used.asked = asked.since(used.asked, asked.received(holder.bench.etcd.endpoints))
        used.resident = [processes.resident(worker.pid) for worker in holder.workers]
        used.threads = [processes.threads(worker.pid) for worker in holder.workers]
        used.lost = sum(worker.ask("lost")["lost"] for worker in holder.workers)


def measure(lab: Lab, sizes: Sequence[int], *, hands_over: Sequence[int]) -> tuple[list[Holder], noise.Noise]:
    """Several sizes rest at the same time; their etcds and their processes go when all is done."""
    holders = []
    with ExitStack() as stack, noise.watched() as noises:
        for size in sizes:
            for peer in lab.shuffled(lab.who(MANY)):
                holder = Holder(peer, size, stack.enter_context(lab.bench()))
                holder.acquire()
                holders.append(holder)
        rest(holders, QUICK_REST if lab.quick else REST)
        for holder in holders:
            if holder.size in hands_over:
                try:
                    holder.hand_over()
                except WorkerError as error:
                    # What was found at rest stays found.
                    holder.used.failed = f"not handed over: {error}"
    return holders, noises
