"""The bare calls: the least that Python's gRPC and etcd require, without a library.

A lease is granted. One transaction puts the key and reads the queue. The predecessor is watched from "now", and read
again if anything was written in between. Its DELETE is the election if it was the only key before ours.

A missing, late or unexpected response leads to no decision, and only a DELETE is noticed. It is a lower bound, not a
candidate.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from benchmarks.peers.protocol import BlockingPeer, now, options
from etcdleader.etcd3 import etcd3

RPC = etcd3.etcdrpc
PER_READ = 128
TIMEOUT = 120.0

T = TypeVar("T")


@dataclass
class Candidate:
    """One place in one queue."""

    prefix: bytes
    lease: int
    key: bytes = b""
    revision: int = 0
    seen: int = 0
    place: int = 0
    predecessor: bytes = b""
    elected: int = 0
    won: threading.Event = field(default_factory=threading.Event)
    watched: threading.Event = field(default_factory=threading.Event)
    renewed: int = 0
    watch: int | None = None

    def win(self) -> None:
        self.elected = now()
        self.won.set()


class BareCalls(BlockingPeer):
    """Blocking stubs, one stream of keep-alives, one of watches, and a thread that reads each."""

    def __init__(self) -> None:
        self.options = options()
        self.connect()
        self.candidates: dict[str, Candidate] = {}
        self.by_lease: dict[int, Candidate] = {}
        self.by_watch: dict[int, Candidate] = {}
        self.creating: queue.SimpleQueue[Candidate] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.to_renew: queue.SimpleQueue[Any] | None = None
        self.to_watch: queue.SimpleQueue[Any] | None = None
        self.to_check: queue.SimpleQueue[Candidate] = queue.SimpleQueue()
        self.answered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def connect(self) -> None:
        """To the first endpoint, as any client of one connection: with three members it may be a follower."""
        # Else gRPC gives a new channel the connection of an old one.
        self.channel = grpc.insecure_channel(self.options.endpoints[0], [("grpc.use_local_subchannel_pool", 1)])
        self.leases, self.kv = RPC.LeaseStub(self.channel), RPC.KVStub(self.channel)

    # Renewals

    def keep(self, name: str, candidate: Candidate) -> None:
        candidate.renewed = candidate.renewed or now()
        with self.lock:
            self.candidates[name] = candidate
            self.by_lease[candidate.lease] = candidate
            if self.to_renew is None:
                self.to_renew = queue.SimpleQueue()
                answers = self.leases.LeaseKeepAlive(iter(self.to_renew.get, None))
                threading.Thread(target=self.read_renewals, args=(answers,), daemon=True).start()
                threading.Thread(target=self.renew, daemon=True).start()

    def read_renewals(self, answers: Iterable[Any]) -> None:
        for answer in answers:
            candidate = self.by_lease.get(answer.ID)
            if candidate is not None:
                candidate.renewed = now()
            self.answered.put(answer.ID)

    def renew(self) -> None:
        """All leases once per ``renew``, in portions, and the keys read if that is asked for."""
        begin = time.monotonic()
        for number in range(1, 1_000_000):
            time.sleep(max(0.0, begin + self.options.renew * number - time.monotonic()))
            with self.lock:
                portions = list(in_waves(list(self.by_lease.values())))
            for place, portion in enumerate(portions):
                due = begin + self.options.renew * (number + place / len(portions))
                time.sleep(max(0.0, due - time.monotonic()))
                self.renew_some(portion)

    def renew_some(self, portion: Sequence[Candidate]) -> None:
        assert self.to_renew is not None
        while not self.answered.empty():
            self.answered.get()
        for candidate in portion:
            self.to_renew.put(RPC.LeaseKeepAliveRequest(ID=candidate.lease))
        if portion and self.options.reads:
            for _ in portion:
                self.answered.get(timeout=TIMEOUT)
            reads = [RPC.RequestOp(request_range=RPC.RangeRequest(key=candidate.key)) for candidate in portion]
            self.kv.Txn(RPC.TxnRequest(success=reads), timeout=TIMEOUT)

    # Watches

    def await_deletion(self, candidate: Candidate) -> None:
        with self.lock:
            if self.to_watch is None:
                self.to_watch = queue.SimpleQueue()
                answers = RPC.WatchStub(self.channel).Watch(iter(self.to_watch.get, None))
                threading.Thread(target=self.read_watches, args=(answers,), daemon=True).start()
                threading.Thread(target=self.check, daemon=True).start()
            # They are created in the order in which they were asked for.
            self.creating.put(candidate)
            self.to_watch.put(
                RPC.WatchRequest(create_request=RPC.WatchCreateRequest(key=candidate.predecessor, filters=[0]))
            )

    def read_watches(self, answers: Iterable[Any]) -> None:
        assert self.to_watch is not None
        for answer in answers:
            if answer.created:
                candidate = self.creating.get()
                candidate.watch = answer.watch_id
                self.by_watch[answer.watch_id] = candidate
                if answer.header.revision > candidate.seen:
                    self.to_check.put(candidate)
                else:
                    candidate.watched.set()
            elif answer.events:
                found = self.by_watch.pop(answer.watch_id, None)
                if found is not None:
                    if found.place == 2:
                        found.win()
                    else:
                        self.to_check.put(found)
                    self.cancel_watch(answer.watch_id)

    def cancel_watch(self, watch: int) -> None:
        assert self.to_watch is not None
        self.to_watch.put(RPC.WatchRequest(cancel_request=RPC.WatchCancelRequest(watch_id=watch)))

    def check(self) -> None:
        """Read the keys before a candidate's: after a deletion, or if a key was written before the watch was created."""
        while True:
            candidate = self.to_check.get()
            found = self.kv.Range(
                RPC.RangeRequest(
                    key=candidate.prefix,
                    range_end=after(candidate.prefix),
                    limit=1,
                    sort_order=RPC.RangeRequest.DESCEND,
                    sort_target=RPC.RangeRequest.CREATE,
                    max_create_revision=candidate.revision - 1,
                ),
                timeout=TIMEOUT,
            )
            candidate.watched.set()
            if not found.kvs:
                candidate.win()
            elif found.kvs[0].key != candidate.predecessor:
                # etcd counts those behind us, too, so our place is not known any more.
                candidate.predecessor, candidate.place = found.kvs[0].key, 0
                candidate.seen = found.header.revision
                self.await_deletion(candidate)

    # Candidates

    def begin(self, name: str) -> tuple[Candidate, Any, Any]:
        """A candidate with its two requests."""
        lease = random.getrandbits(62) + 1
        prefix = f"{name}/".encode()
        candidate = Candidate(prefix, lease, key=prefix + f"{lease:x}".encode())
        absent = RPC.Compare(key=candidate.key, target=RPC.Compare.CREATE, result=RPC.Compare.EQUAL, create_revision=0)
        put = RPC.PutRequest(key=candidate.key, value=b"bench", lease=lease)
        look = RPC.RangeRequest(
            key=prefix,
            range_end=after(prefix),
            limit=2,
            sort_order=RPC.RangeRequest.DESCEND,
            sort_target=RPC.RangeRequest.CREATE,
        )
        join = RPC.TxnRequest(
            compare=[absent], success=[RPC.RequestOp(request_put=put), RPC.RequestOp(request_range=look)]
        )
        return candidate, RPC.LeaseGrantRequest(TTL=self.options.lease, ID=lease), join

    @staticmethod
    def joined(candidate: Candidate, answer: Any) -> None:
        seen = answer.responses[1].response_range
        candidate.revision = candidate.seen = answer.header.revision
        candidate.place = seen.count
        if seen.count == 1:
            candidate.win()
        else:
            candidate.predecessor = seen.kvs[1].key

    def join(self, name: str) -> Candidate:
        candidate, grant, join = self.begin(name)
        self.leases.LeaseGrant(grant, timeout=TIMEOUT)
        candidate.renewed = now()
        self.joined(candidate, self.kv.Txn(join, timeout=TIMEOUT))
        return candidate

    def join_many(self, elections: dict[str, str]) -> list[Candidate]:
        """By the candidates' names. In waves, in which no request waits for the one before it."""
        everyone = []
        for names in in_waves(list(elections)):
            wave = [(name, *self.begin(elections[name])) for name in names]
            grants = [self.leases.LeaseGrant.future(grant, timeout=TIMEOUT) for _, _, grant, _ in wave]
            for granted in grants:
                granted.result()
            joins = [self.kv.Txn.future(join, timeout=TIMEOUT) for _, _, _, join in wave]
            for (name, candidate, _, _), joining in zip(wave, joins, strict=True):
                self.joined(candidate, joining.result())
                self.keep(name, candidate)
                everyone.append(candidate)
        return everyone

    def await_turns(self, candidates: Sequence[Candidate]) -> None:
        waiting = [candidate for candidate in candidates if not candidate.won.is_set()]
        for candidate in waiting:
            self.await_deletion(candidate)
        for candidate in waiting:
            assert candidate.watched.wait(TIMEOUT)

    def forget(self, name: str) -> Candidate:
        with self.lock:
            candidate = self.candidates.pop(name)
            self.by_lease.pop(candidate.lease, None)
        return candidate


def numbered(election: str, many: int) -> dict[str, str]:
    """Elections of which each candidate is named as its election is."""
    return {name: name for name in (f"{election}-{number}" for number in range(many))}


def in_waves(things: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), PER_READ):
        yield things[start : start + PER_READ]


def after(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin so; a prefix ends in a slash here."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
