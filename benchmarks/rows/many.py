"""The tables of what elections cost at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.asked import calls
from benchmarks.lab import Lab
from benchmarks.noise import Noise
from benchmarks.registry import GO_SHARED, OURS, PEERS
from benchmarks.results import Bound, Measured, Row
from benchmarks.rows.rest import KILO, LEASE, MEGA, RENEW, RETRY, Holder, measure

TOGETHER = (1, 10, 100, 1_000)
JUDGED = 10_000
MOST = 20_000
AT_REST = {1_000: 0.8, JUDGED: 5.0}
QUICK = (1, 20)

Figure = Callable[[Holder], Sequence[float]]


def pair(lab: Lab) -> list[Row]:
    """One leader and one that waits."""
    return list(of_a_pair(*measure(lab, [1], hands_over=[])))


def many(lab: Lab) -> Iterator[Row]:
    """All sizes. What can rest together does; the large ones are alone."""
    groups: Sequence[Sequence[int]] = [QUICK] if lab.quick else [TOGETHER, [JUDGED], [MOST]]
    for sizes in groups:
        holders, noise = measure(lab, sizes, hands_over=[20, 1_000, JUDGED])
        holders.sort(key=lambda holder: PEERS.index(holder.peer))
        for size in sizes:
            of_size = [holder for holder in holders if holder.size == size]
            yield from of_a_pair(of_size, noise) if size == 1 else of_many(of_size, noise, size)


def table(name: str, title: str, unit: str, holders: Sequence[Holder], noise: Noise, figure: Figure) -> Row:
    peers = {holder.peer.title: Measured(list(figure(holder))) for holder in holders}
    return Row(name, title, unit, peers, noise, points=holders[0].size)


def of_a_pair(holders: Sequence[Holder], noise: Noise) -> Iterator[Row]:
    holders = [holder for holder in holders if holder.peer is not GO_SHARED]
    what = f"one leader, one waiting, lease {LEASE} s, renewed every {RENEW:g} s (Go: {LEASE / 3:g} s)"
    row = table("pair-cpu", f"At rest: {what}: processor", "%", holders, noise, lambda holder: holder.used.cpu)
    row.at_most("of a processor", OURS.title, 0.1)
    for holder in holders:
        measured = row.peers[holder.peer.title]
        # A request for etcd's counters is not the peer's. The count is for both, per renewal.
        measured.count(holder.used.asked, int(max(1, holder.used.asked.get("LeaseKeepAlive", 0))))
    if OURS.title in row.peers:
        asked = row.peers[OURS.title].per_operation()
        progress = asked.get("Watch", 0) * RETRY / RENEW
        row.asks_at_most("<= 3 requests per renewal", calls(asked) + asked.get("LeaseKeepAlive", 0), 3)
        row.asks_at_most(f"<= 1 progress request per {RETRY:g} s", progress, 1)
    yield row
    row = table(
        "pair-memory",
        "At rest: one leader, one waiting: memory",
        "MB",
        holders,
        noise,
        lambda holder: [resident / MEGA for resident in holder.used.resident],
    )
    for holder in holders:
        row.peers[holder.peer.title].note = f"{max(all_of_them for all_of_them, _ in holder.used.threads)} threads"
    row.at_most("", OURS.title, 48)
    yield row


def of_many(holders: Sequence[Holder], noise: Noise, size: int) -> Iterator[Row]:
    what = f"{size:,} elections led by one process"
    row = table(f"many-{size}-cpu", f"At rest: {what}: processor", "%", holders, noise, lambda holder: holder.used.cpu)
    for holder in holders:
        row.peers[holder.peer.title].count(holder.used.asked, size)
        row.peers[holder.peer.title].note = f"{holder.used.lost} lost meanwhile, {holder.used.threads[0][0]} threads"
        if holder.used.failed:
            row.peers[holder.peer.title].note += f"; {holder.used.failed}"
    if size in AT_REST:
        row.at_most("of a processor", OURS.title, AT_REST[size])
    judge_the_rest(row, holders, size)
    yield row
    row = table(
        f"many-{size}-memory",
        f"{what}: memory per election",
        "KB",
        holders,
        noise,
        lambda holder: [(holder.used.resident[0] - holder.used.before) / KILO / size],
    )
    if size == JUDGED:
        row.at_most("each", OURS.title, 20)
    yield row
    row = table(
        f"many-{size}-acquired", f"{what}: time until all are led", "s", holders, noise, lambda h: [h.used.acquired]
    )
    if size == JUDGED:
        row.at_most("until all lead", OURS.title, 10)
    yield row
    if any(holder.used.handed_over is not None for holder in holders):
        row = table(
            f"many-{size}-handed-over",
            f"{what}: time until another process leads in all of them",
            "s",
            holders,
            noise,
            lambda holder: [] if holder.used.handed_over is None else [holder.used.handed_over],
        )
        if size == JUDGED:
            row.at_most("until all are handed over", OURS.title, 15)
            if OURS.title in row.peers and not row.has(OURS.title):
                row.bounds.append(Bound("<= 15 s until all are handed over", "they were not", reached=False))
        yield row


def judge_the_rest(row: Row, holders: Sequence[Holder], size: int) -> None:
    for holder in holders:
        if holder.peer is OURS:
            used = holder.used
            row.bounds.append(Bound("none lost", f"{used.lost} lost", used.lost == 0))
            if size == JUDGED:
                every, not_of_grpc = used.threads[0]
                found = f"{not_of_grpc} of the {every}"
                row.bounds.append(Bound("<= 6 threads outside gRPC", found, not_of_grpc <= 6))
