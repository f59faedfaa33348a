"""Acquiring leadership without other candidates: a new lease on an open connection."""

from __future__ import annotations

import time
from collections.abc import Iterable

from benchmarks import asked, noise
from benchmarks.lab import Lab, new_election
from benchmarks.registry import ACQUIRE, COLD, GO, OURS
from benchmarks.results import Measured, Row
from benchmarks.workers import Worker

BATCH = 5
"""In a row, so that the price of having been idle is paid once and not in the median."""
SETTLE = 0.02
CONNECTED = 1.0
MILLI = 1e-6
"""Milliseconds in a nanosecond."""


def connect(workers: Iterable[Worker]) -> None:
    """Open their connections; whatever else is asked of etcd in the beginning is over afterwards."""
    for worker in workers:
        worker.ask("connect")
    time.sleep(CONNECTED)


def measure(lab: Lab, members: int) -> Row:
    peers = lab.who(ACQUIRE)
    found = {peer.title: Measured() for peer in peers}
    with lab.bench(members) as bench, noise.watched() as noises:
        workers = {peer: bench.worker(peer) for peer in peers}
        connect(workers.values())
        for number in range(lab.rounds(40 if members == 1 else 25, 2) + 1):
            for peer in lab.shuffled(peers):
                election, worker = new_election(), workers[peer]
                before = asked.received(bench.etcd.endpoints)
                took = worker.ask("acquire", election=election, times=BATCH)["took"]
                time.sleep(SETTLE)
                after = asked.received(bench.etcd.endpoints)
                for one in range(BATCH):
                    worker.ask("drop", name=f"{election}-{one}")
                if number:  # the first round warms up
                    found[peer.title].samples += [one * MILLI for one in took]
                    if peer.on_etcd:
                        found[peer.title].count(asked.since(before, after), BATCH)
    where = "one member" if members == 1 else f"{members} members"
    row = Row(f"acquire-{members}", f"Acquire: a new lease, the connection open ({where})", "ms", found, noises)
    row.at_most_times(1.15, OURS.title, GO.title)
    row.asks_at_most("<= 2 round trips", asked.calls(found[OURS.title].per_operation()) if OURS in peers else None, 2)
    return row


def cold(lab: Lab) -> Row:
    """The same with a connection that has to be opened first."""
    peers = lab.who(COLD)
    found = {peer.title: Measured() for peer in peers}
    with lab.bench() as bench, noise.watched() as noises:
        workers = {peer: bench.worker(peer) for peer in peers}
        for number in range(lab.rounds(25, 2) + 1):
            for peer in lab.shuffled(peers):
                before = asked.received(bench.etcd.endpoints)
                took = workers[peer].ask("acquire_cold", election=new_election())["took"]
                time.sleep(SETTLE)
                after = asked.received(bench.etcd.endpoints)
                if number:
                    found[peer.title].samples += [one * MILLI for one in took]
                    found[peer.title].count(asked.since(before, after))
    for title, measured in found.items():
        measured.note = "the requests include those of the release" + (
            "; includes its start, since it is a program" if title == "etcdctl elect" else ""
        )
    return Row("cold", "Acquire: a new lease, a new connection (one member)", "ms", found, noises)
