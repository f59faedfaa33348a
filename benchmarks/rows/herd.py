"""To hand over where many wait: what one change costs must not depend on how many there are."""

from __future__ import annotations

import time

from benchmarks import asked, noise
from benchmarks.lab import Bench, Lab, new_election
from benchmarks.registry import GO, HERD, OURS, Peer
from benchmarks.results import Measured, Row
from benchmarks.rows.acquire import MILLI
from benchmarks.workers import Worker

JUDGED = 1000
SIZES = (1, 10, 100, 1000, 5000)
QUICK_SIZES = (1, 20)
SETTLE = 0.06
CROWDED = 0.2


class Queue:
    """A peer's two processes in one election. The first ones in it take turns; behind them stand all others."""

    def __init__(self, bench: Bench, peer: Peer, changes: int, size: int) -> None:
        self.workers = [bench.worker(peer, renew=150.0), bench.worker(peer, renew=150.0)]
        self.election = new_election()
        self.turn = 0
        for worker in self.workers:
            worker.ask("connect")
        # The last change, too, is seen by a full crowd, as far as it is larger than the changes are many.
        self.first = min(size, changes + 1) + 1
        for place in range(self.first):
            self.worker(place).ask("stand", election=self.election, name=self.name(place))
        for worker, half in zip(
            self.workers, ((size + 1 - self.first) // 2, (size + 2 - self.first) // 2), strict=True
        ):
            if half > 0:
                worker.ask("crowd", election=self.election, many=half)
        self.worker(0).ask("wait", name=self.name(0))

    def name(self, place: int) -> str:
        return f"{self.election}~{place}"

    def worker(self, place: int) -> Worker:
        return self.workers[place % 2]

    def change(self) -> int:
        """Let the leader resign, and return the nanoseconds until the next one is elected. A candidate that left rejoins at the end."""
        place = self.turn
        self.turn += 1
        elected = self.worker(place + 1).begin("wait", name=self.name(place + 1))
        called = self.worker(place).ask("resign", name=self.name(place))["called"]
        took: int = elected.result(30)["elected"] - called
        return took

    def after(self) -> None:
        """This is outside the counted time: the resigned candidate leaves, and a short queue is filled again."""
        self.worker(self.turn - 1).ask("drop", name=self.name(self.turn - 1))
        self.worker(self.first).ask("stand", election=self.election, name=self.name(self.first))
        self.first += 1


def measure(lab: Lab, size: int) -> Row:
    peers = lab.who(HERD)
    found = {peer.title: Measured() for peer in peers}
    changes = lab.rounds(30 if size == JUDGED else 15, 3)
    with lab.bench() as bench, noise.watched() as noises:
        queues = {peer: Queue(bench, peer, changes, size) for peer in peers}
        for number in range(changes + 1):
            for peer in lab.shuffled(peers):
                time.sleep(CROWDED)
                before = asked.received(bench.etcd.endpoints)
                took = queues[peer].change()
                time.sleep(SETTLE)
                after = asked.received(bench.etcd.endpoints)
                queues[peer].after()
                if number:  # the first round warms up
                    found[peer.title].samples.append(took * MILLI)
                    found[peer.title].count(asked.since(before, after))
    row = Row(f"herd-{size}", f"Hand over, candidates waiting: {size:,}", "ms", found, noises, points=size)
    if size == JUDGED:
        row.at_most_times(1.3, OURS.title, GO.title)
        if OURS in peers:
            each = found[OURS.title].per_operation()
            row.asks_at_most("<= 3 round trips per change", asked.calls(each), 3)
            row.asks_at_most("<= 3 requests per change, those on streams with them", sum(each.values()), 3)
    return row
