"""To have the lease renewed and confirmed now."""

from __future__ import annotations

from benchmarks import asked, noise
from benchmarks.lab import Lab, new_election
from benchmarks.registry import BARE, EXTEND, OURS
from benchmarks.results import Measured, Row
from benchmarks.rows.acquire import BATCH, MILLI


def measure(lab: Lab) -> Row:
    peers = lab.who(EXTEND)
    found = {peer.title: Measured() for peer in peers}
    with lab.bench() as bench, noise.watched() as noises:
        workers = {peer: bench.worker(peer) for peer in peers}
        election = {peer: new_election() for peer in peers}
        for peer, worker in workers.items():
            worker.ask("stand", election=election[peer])
            worker.ask("wait", name=election[peer])
        for number in range(lab.rounds(60, 3) + 1):
            for peer in lab.shuffled(peers):
                before = asked.received(bench.etcd.endpoints)
                took = workers[peer].ask("extend", name=election[peer], times=BATCH)["took"]
                after = asked.received(bench.etcd.endpoints)
                if number:
                    found[peer.title].samples += [one * MILLI for one in took]
                    found[peer.title].count(asked.since(before, after), BATCH)
    row = Row("extend", "extend(): renewed and confirmed, now", "ms", found, noises)
    row.at_most_times(1.3, OURS.title, BARE.title)
    return row
