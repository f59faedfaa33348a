"""To be elected where nobody else stands: a new lease, on a connection that is open."""

from __future__ import annotations

import time

from benchmarks import asked, noise
from benchmarks.lab import Lab, new_election
from benchmarks.registry import ACQUIRE, GO, OURS
from benchmarks.results import Measured, Row

BATCH = 5
"""In a row, so that the price of having been idle is paid once and not in the median."""
SETTLE = 0.02
MILLI = 1e-6
"""Milliseconds in a nanosecond."""


def measure(lab: Lab, members: int) -> Row:
    peers = lab.who(ACQUIRE)
    found = {peer.title: Measured() for peer in peers}
    with lab.bench(members) as bench, noise.watched() as noises:
        workers = {peer: bench.worker(peer) for peer in peers}
        for worker in workers.values():
            worker.ask("connect")
        for number in range(lab.rounds(40 if members == 1 else 25, 2) + 1):
            for peer in lab.shuffled(peers):
                # etcdctl has its start in it: one tells as much as five.
                batch = 1 if peer.slug == "etcdctl" else BATCH
                election, worker = new_election(), workers[peer]
                before = asked.received(bench.etcd.endpoints)
                took = worker.ask("acquire", election=election, times=batch)["took"]
                time.sleep(SETTLE)
                after = asked.received(bench.etcd.endpoints)
                for one in range(batch):
                    worker.ask("drop", name=f"{election}-{one}")
                if number:  # the first round warms up
                    found[peer.title].samples += [one * MILLI for one in took]
                    if peer.on_etcd:
                        found[peer.title].count(asked.since(before, after), batch)
    where = "one member" if members == 1 else f"{members} members"
    row = Row(f"acquire-{members}", f"Acquire: a new lease, the connection open ({where})", "ms", found, noises)
    if "etcdctl elect" in found:
        found["etcdctl elect"].note = "with its own start, since it is a program"
    row.at_most_times(1.15, OURS.title, GO.title)
    row.asks_at_most("<= 2 round trips", asked.calls(found[OURS.title].per_operation()) if OURS in peers else None, 2)
    return row
