"""To hand over: from `resign` in one process to the word in another one that it leads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import asked, noise
from benchmarks.lab import Lab, new_election
from benchmarks.registry import BARE, GO, HAND_OVER, OURS, Peer
from benchmarks.results import Measured, Row
from benchmarks.rows.acquire import MILLI, SETTLE, connect
from benchmarks.workers import Worker

WRITES = 700.0
LOOK = 0.4
"""The share of the gap after which etcd's counters are read: by then the successor's watch stands."""


@dataclass(frozen=True)
class Variant:
    """One way to measure it.

    Attributes:
        name: Of the row.
        title: Of the table.
        gap: Seconds for which the successor has been waiting, from and to.
        members: Of etcd.
        writes: Whether something else is written meanwhile.
        times_go: The bound.
        rounds: In a full run.
    """

    name: str
    title: str
    gap: tuple[float, float]
    members: int = 1
    writes: bool = False
    times_go: float = 1.0
    rounds: int = 40


SETTLED = (0.15, 0.25)
FRESH = (0.03, 0.06)
VARIANTS = (
    Variant("handover-1", "Hand over, the successor settled (one member)", SETTLED),
    Variant("handover-3", "Hand over, the successor settled (3 members)", SETTLED, members=3, rounds=25),
    Variant("fresh", "Hand over, the successor queued 30-60 ms before", FRESH, times_go=0.1),
    Variant(
        "fresh-writes",
        f"Hand over, the successor queued 30-60 ms before, beside {WRITES:.0f} unrelated writes a second",
        FRESH,
        writes=True,
        times_go=0.1,
    ),
)

Pair = tuple[Worker, Worker]


@dataclass
class Waiting:
    """A leader and its successor, before the change."""

    peer: Peer
    leader: Worker
    successor: Worker
    election: str
    since: float


def measure(lab: Lab, variant: Variant) -> Row:
    peers = lab.who(HAND_OVER)
    if variant.gap == FRESH:
        # These do not report when they have joined the queue, or are started again to join it.
        peers = [peer for peer in peers if peer.slug not in {"etcdctl", "kazoo"}]
    found = {peer.title: Measured() for peer in peers}
    with lab.bench(variant.members) as bench, noise.watched() as noises:
        pairs = {peer: (bench.worker(peer), bench.worker(peer)) for peer in peers}
        connect(worker for pair in pairs.values() for worker in pair)
        writer = bench.worker(BARE) if variant.writes else None
        if writer is not None:
            writer.begin("write", rate=WRITES)
        began = time.monotonic()
        for number in range(lab.rounds(variant.rounds, 3) + 1):
            turns: Iterable[Waiting] = prepared(lab.shuffled(peers), pairs, number)
            # Together they all stand before the first change, and wait meanwhile.
            for waiting in list(turns) if variant.gap == SETTLED else turns:
                before = wait_out(waiting, lab.chance.uniform(*variant.gap), bench.etcd.endpoints)
                took, counted = change(waiting, before, bench.etcd.endpoints)
                if number:  # the first round warms up
                    measured = found[waiting.peer.title]
                    measured.samples.append(took * MILLI)
                    if waiting.peer.on_etcd:
                        # The writer asks for nothing but Put, and an election never does.
                        counted.pop("Put", None)
                        measured.count(counted)
        title = variant.title
        if writer is not None:
            title += f" ({writer.ask('written')['written'] / (time.monotonic() - began):.0f} were)"
    row = Row(variant.name, title, "ms", found, noises)
    row.at_most_times(variant.times_go, OURS.title, GO.title)
    if OURS.title in found and variant.gap == SETTLED:
        row.asks_at_most("no Range", found[OURS.title].per_operation().get("Range", 0), 0)
        row.asks_at_most("one round trip, the release", asked.calls(found[OURS.title].per_operation()), 1)
    return row


def prepared(peers: Sequence[Peer], pairs: dict[Peer, Pair], number: int) -> Iterator[Waiting]:
    """Each pair takes its places when it is asked for. The two change places from round to round."""
    for peer in peers:
        leader, successor = pairs[peer][:: 1 if number % 2 else -1]
        election = new_election()
        leader.ask("stand", election=election)
        leader.ask("wait", name=election)
        successor.ask("stand", election=election)
        yield Waiting(peer, leader, successor, election, time.monotonic())


def wait_out(waiting: Waiting, gap: float, endpoints: Sequence[str]) -> asked.Counters:
    """Let the gap pass; returns etcd's counters of before the change."""
    time.sleep(max(0.0, waiting.since + gap * LOOK - time.monotonic()))
    before = asked.received(endpoints)
    time.sleep(max(0.0, waiting.since + gap - time.monotonic()))
    return before


def change(waiting: Waiting, before: asked.Counters, endpoints: Sequence[str]) -> tuple[int, asked.Counters]:
    """The nanoseconds that it took, and what was asked for."""
    elected = waiting.successor.begin("wait", name=waiting.election)
    called = waiting.leader.ask("resign", name=waiting.election)["called"]
    took = elected.result(30)["elected"] - called
    time.sleep(SETTLE)
    after = asked.received(endpoints)
    waiting.leader.ask("drop", name=waiting.election)
    waiting.successor.ask("drop", name=waiting.election)
    return took, asked.since(before, after)
