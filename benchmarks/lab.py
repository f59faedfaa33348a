"""The equipment of the rows: servers, workers and peers. All of them end with the block in which they were created."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.registry import Peer
from benchmarks.workers import Worker
from benchmarks.zookeeper import ZooKeeper
from etcdleader.testing import EtcdServer

LEASE = 600
"""Seconds, by default: no renewal falls into a measurement."""


@dataclass
class Lab:
    """One run.

    Attributes:
        peers: The measured peers.
        given_rounds: The number of rounds, if it was given.
        quick: Whether few rounds are enough.
        etcd_version: The version of the etcd that was last started.
    """

    peers: Sequence[Peer]
    given_rounds: int | None = None
    quick: bool = False
    etcd_version: str = ""
    chance: random.Random = field(default_factory=random.Random)

    def rounds(self, full: int, quick: int) -> int:
        return self.given_rounds or (quick if self.quick else full)

    def who(self, what: str) -> list[Peer]:
        """The peers that take part in a row."""
        return [peer for peer in self.peers if what in peer.does]

    def shuffled(self, peers: Sequence[Peer]) -> list[Peer]:
        return self.chance.sample(peers, len(peers))

    @contextmanager
    def bench(self, members: int = 1) -> Iterator[Bench]:
        """Servers of a row's own: what one leaves behind is no burden to the next."""
        with ExitStack() as stack:
            etcd = stack.enter_context(EtcdServer(members))
            self.etcd_version = etcd.version
            yield Bench(stack, etcd)


@dataclass
class Bench:
    """The servers and the workers of one row."""

    stack: ExitStack
    etcd: EtcdServer
    zookeeper: ZooKeeper | None = None

    def worker(self, peer: Peer, **options: Any) -> Worker:
        """A worker that ends with the row."""
        return self.stack.enter_context(self.passing_worker(peer, **options))

    def passing_worker(self, peer: Peer, **options: Any) -> Worker:
        """A worker that other code ends."""
        settings = {"lease": LEASE, "endpoints": self.endpoints(peer), **peer.options, **options}
        return Worker(peer.title, peer.command, settings)

    def endpoints(self, peer: Peer) -> Sequence[str]:
        if peer.on_etcd:
            return self.etcd.endpoints
        if self.zookeeper is None:
            self.zookeeper = self.stack.enter_context(ZooKeeper())
        return self.zookeeper.endpoints


def new_election() -> str:
    return f"bench/{uuid.uuid4().hex[:12]}"
