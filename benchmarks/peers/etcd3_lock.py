"""The peer "etcd3 Lock": python-etcd3's lock, held for leadership, under a protobuf of today.

A lock takes a new lease at each attempt, does not renew it, and leaves it behind. A contended one works with tenacity 6
only. It does not report that it waits. So the peer answers once its thread runs.
"""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.peers.protocol import Answer, BlockingPeer, now, options, serve
from etcdleader.etcd3 import etcd3


class Lock:
    """A lock, and when it was had."""

    def __init__(self, client: Any, name: str, ttl: int) -> None:
        self.lock = client.lock(name, ttl=ttl)
        self.elected = 0
        self.won = threading.Event()

    def take(self) -> None:
        assert self.lock.acquire(timeout=120)
        self.elected = now()
        self.won.set()


class Locks(BlockingPeer):
    """One client for all."""

    def __init__(self) -> None:
        self.options = options()
        host, _, port = self.options.endpoints[0].rpartition(":")
        self.client = etcd3.client(host=host, port=int(port))
        self.locks: dict[str, Lock] = {}

    def lock(self, name: str) -> Lock:
        self.locks[name] = Lock(self.client, name, self.options.lease)
        return self.locks[name]

    def do_connect(self) -> None:
        self.client.get("warm")

    def do_acquire(self, election: str, times: int) -> Answer:
        took = []
        for number in range(times):
            began = now()
            lock = self.lock(f"{election}-{number}")
            lock.take()
            took.append(lock.elected - began)
        return {"took": took}

    def do_stand(self, election: str) -> None:
        threading.Thread(target=self.lock(election).take, daemon=True).start()

    def do_wait(self, name: str) -> Answer:
        lock = self.locks[name]
        assert lock.won.wait(120)
        return {"elected": lock.elected}

    def do_resign(self, name: str) -> Answer:
        called = now()
        self.locks[name].lock.release()
        return {"called": called, "done": now()}

    def do_drop(self, name: str) -> None:
        """The lease, too, which the lock would leave behind."""
        lock = self.locks.pop(name).lock
        if lock.lease is not None:
            self.client.revoke_lease(lock.lease.id)


if __name__ == "__main__":
    serve(Locks())
