"""The cost of a call and of a watch event: our gRPC client beside others, with the same bytes.

Each client is a process with one connection to the same etcd. In each round every client has its turn. Requests are
serialized in advance and responses stay bytes. So HTTP/2, gRPC and the event loop are measured, without protobuf and
without elections. The CPU time is that of the whole process: of all its threads, and in the kernel.

The codec is also measured alone, in memory: the client's side of one call. The clients differ most in that part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import asked, noise
from benchmarks.lab import Lab, new_election
from benchmarks.noise import Noise
from benchmarks.registry import BARE, CODEC, OUR_RPC, RPC, Peer
from benchmarks.results import Measured, Row
from benchmarks.workers import Worker
from etcdleader.etcd3 import etcd3

MESSAGES = etcd3.etcdrpc
CALLS, BURSTS, SIZE, IN_MEMORY = 300, 10, 64, 1000
QUICK_CALLS, QUICK_BURSTS, QUICK_IN_MEMORY = 10, 1, 50
MICRO = 1e-3
"""Microseconds in a nanosecond."""
COMPARED = {"x ours": OUR_RPC.title}


@dataclass
class Found:
    """The samples of one peer, in microseconds: CPU time, and the latency of a response or an event."""

    codec: Measured = field(default_factory=Measured)
    call: Measured = field(default_factory=Measured)
    call_latency: Measured = field(default_factory=Measured)
    burst: Measured = field(default_factory=Measured)
    burst_latency: Measured = field(default_factory=Measured)
    event: Measured = field(default_factory=Measured)
    event_latency: Measured = field(default_factory=Measured)
    messages: int = 0
    events: int = 0


Figure = Callable[[Found], Measured]


def measure(lab: Lab) -> list[Row]:
    peers = lab.who(RPC)
    if not peers:
        return []
    calls, bursts = (QUICK_CALLS, QUICK_BURSTS) if lab.quick else (CALLS, BURSTS)
    found = {peer: Found() for peer in peers}
    with lab.bench() as bench, noise.watched() as noises:
        key = new_election().encode()
        request = MESSAGES.RangeRequest(key=key).SerializeToString().hex()
        workers, prefixes = {peer: bench.worker(peer) for peer in peers}, {peer: f"{new_election()}/" for peer in peers}
        for peer, worker in workers.items():
            worker.ask("connect", request=request)
            worker.ask("watch", request=watch_request(prefixes[peer]).hex())
        writer = bench.worker(BARE)
        for number in range(lab.rounds(15, 1) + 1):
            for peer in lab.shuffled(peers):
                this = found[peer] if number else Found()  # the first round warms up
                worker = workers[peer]
                before = asked.received(bench.etcd.endpoints)
                took = worker.ask("calls", times=calls)
                this.call.samples.append(took["used"] * MICRO)
                this.call_latency.samples += [one * MICRO for one in took["took"]]
                between = asked.received(bench.etcd.endpoints)
                this.call.count(asked.since(before, between), calls)
                took = worker.ask("bursts", times=bursts, size=SIZE)
                this.burst.samples.append(took["used"] * MICRO)
                this.burst_latency.samples += [one * MICRO for one in took["took"]]
                this.burst.count(asked.since(between, asked.received(bench.etcd.endpoints)), bursts * SIZE)
                events(this, worker, writer, prefixes[peer], bursts)
                if CODEC in peer.does:
                    used = worker.ask("codec", times=QUICK_IN_MEMORY if lab.quick else IN_MEMORY)["used"]
                    this.codec.samples.append(used * MICRO)
    return list(tables(found, noises))


def watch_request(prefix: str) -> bytes:
    first = prefix.encode()
    create = MESSAGES.WatchCreateRequest(key=first, range_end=first[:-1] + bytes((first[-1] + 1,)))
    return bytes(MESSAGES.WatchRequest(create_request=create).SerializeToString())


def events(found: Found, worker: Worker, writer: Worker, prefix: str, bursts: int) -> None:
    """Receive what another process writes in bursts. It waits for the responses to one burst before the next one."""
    worker.ask("begin_events")
    writer.ask("puts", prefix=prefix, bursts=bursts, size=SIZE)
    ended = worker.ask("end_events")
    brought = 0
    for moment, message in ended["came"]:
        for event in MESSAGES.WatchResponse.FromString(bytes.fromhex(message)).events:
            found.event_latency.samples.append((moment - int(event.kv.value)) * MICRO)
            brought += 1
    assert brought == bursts * SIZE + 1, f"{brought} events"
    found.event.samples.append(ended["used"] * MICRO / brought)
    found.messages += len(ended["came"])
    found.events += brought


def tables(found: Mapping[Peer, Found], noises: Noise) -> list[Row]:
    for of_peer in found.values():
        if of_peer.messages:
            of_peer.event.note = f"{of_peer.events / of_peer.messages:.2f} events a message"
    call, burst, event = "A lone call (Range of one key)", f"{SIZE} calls at a time", f"Events, bursts of {SIZE} puts"
    shown: tuple[tuple[str, str, str, Figure], ...] = (
        ("rpc-codec", "A call, the codec alone, in memory: processor", "codec, CPU", lambda one: one.codec),
        ("rpc-call-cpu", f"{call}: processor", "lone call, CPU", lambda one: one.call),
        ("rpc-call", f"{call}: time until the response", "latency", lambda one: one.call_latency),
        ("rpc-burst-cpu", f"{burst}: processor time of each", f"call of {SIZE}, CPU", lambda one: one.burst),
        ("rpc-burst", f"{burst}: time until each response", "latency", lambda one: one.burst_latency),
        ("rpc-event-cpu", f"{event}: processor time of each", "watch event, CPU", lambda one: one.event),
        ("rpc-event", f"{event}: from the put", "latency", lambda one: one.event_latency),
    )
    rows = []
    for name, title, column, figure in shown:
        peers = {peer.title: figure(of_peer) for peer, of_peer in found.items()}
        row = Row(name, title, "us", peers, noises, references=COMPARED, column=column)
        for peer in found:
            if peer.options["client"] != OUR_RPC.options["client"] and row.has(peer.title):
                row.at_most_times(1.0, OUR_RPC.title, peer.title)
        rows.append(row)
    return rows
