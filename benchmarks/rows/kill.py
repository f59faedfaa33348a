"""The leader is killed: how long after the end of its lease its successor leads.

The lease ends a lease after its last renewal; no candidate can lead before, and etcd looks for ended leases every 500 ms
only. So for everybody it is anything from 0 to 0.5 s, and the client's own share is in the last milliseconds of it. That
share is measured, too: from the deletion of the dead one's key, as an observer with a bare watch sees it.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import noise
from benchmarks.lab import Bench, Lab, new_election
from benchmarks.registry import BARE, GO, KILL, OURS, Peer
from benchmarks.results import Bound, Measured, Row
from benchmarks.rows.acquire import MILLI
from benchmarks.stats import difference
from benchmarks.workers import Worker

SLOTS = 8
LEASE, RENEW, RETRY, MARGIN = 2, 0.65, 0.3, 0.5
MORE_THAN_GO = 20.0
SECONDS_TO_WAIT = 20.0


def measure(lab: Lab) -> list[Row]:
    peers = lab.who(KILL)
    found = {peer.title: Measured() for peer in peers}
    own = {peer.title: Measured() for peer in peers}
    kills = lab.rounds(48, 2)
    with lab.bench() as bench, noise.watched() as noises:
        observer = bench.worker(BARE)
        observer.ask("connect")
        successors = {peer: worker(bench, peer) for peer in peers}
        for successor in successors.values():
            bench.stack.enter_context(successor)
            successor.ask("connect")
        turns = [peer for _ in range(kills) for peer in lab.shuffled(peers)]
        over = threading.Event()

        def one(peer: Peer) -> None:
            if not over.is_set():
                whole, share = kill(lab, bench, peer, successors[peer], observer)
                found[peer.title].samples.append(whole * MILLI)
                own[peer.title].samples.append(share * MILLI)

        with ThreadPoolExecutor(SLOTS) as slots:
            try:
                for done in [slots.submit(one, peer) for peer in turns]:
                    done.result()
            finally:
                over.set()
    title = f"kill -9 of the leader (lease {LEASE} s): from the lease's end to the successor's election"
    whole = Row("kill", title, "ms", found, noises)
    title = "The same, from etcd's deletion of the dead leader's key, as an observer received it"
    share = Row("kill-share", title, "ms", own, noises)
    for row in (whole, share):
        judge(row)
    return [whole, share]


def judge(row: Row) -> None:
    text = f"<= {GO.title} + {MORE_THAN_GO:g} ms"
    if row.has(OURS.title, GO.title):
        more, low, high = difference(row.peers[OURS.title].samples, row.peers[GO.title].samples)
        words = f"{more:+.1f} ms (95 %: {low:+.1f} to {high:+.1f} ms)"
        row.bounds.append(Bound(text, words, more <= MORE_THAN_GO))
    elif row.has(OURS.title):
        row.bounds.append(Bound(text, f"{GO.title} was not measured", None))


def worker(bench: Bench, peer: Peer) -> Worker:
    return bench.passing_worker(peer, lease=LEASE, renew=RENEW, retry=RETRY, margin=MARGIN)


def kill(lab: Lab, bench: Bench, peer: Peer, successor: Worker, observer: Worker) -> tuple[int, int]:
    """One leader's life, ended at no particular moment of its renewals.

    Returns nanoseconds: from the lease's end, and from the deletion.
    """
    election = new_election()
    with worker(bench, peer) as leader:
        leader.ask("stand", election=election)
        leader.ask("wait", name=election)
        time.sleep(lab.chance.uniform(0, 0.5))
        successor.ask("stand", election=election)
        waiting = successor.begin("wait", name=election)
        watching = observer.begin("deleted", election=election)
        time.sleep(lab.chance.uniform(0.7, 1.7))
        lease_ends = leader.ask("die", name=election)["lease_ends"]
    elected = waiting.result(SECONDS_TO_WAIT)["elected"]
    deleted = watching.result(SECONDS_TO_WAIT)["deleted"]
    successor.ask("drop", name=election)
    return elected - lease_ends, elected - deleted
