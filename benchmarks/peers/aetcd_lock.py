"""The peer "aetcd Lock": aetcd's lock, held for leadership.

It is python-etcd3's recipe on asyncio. It does not report that it waits. So the peer answers once its task
has begun.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import aetcd

from benchmarks.peers.protocol import Answer, BlockingPeer, now, options, serve


class Locks(BlockingPeer):
    """One client for all, on a loop in a thread; times are taken on the loop."""

    def __init__(self) -> None:
        self.options = options()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.locks: dict[str, Any] = {}
        self.taken: dict[str, asyncio.Task[int]] = {}
        self.client = self.run(self.connect())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    async def connect(self) -> Any:
        host, _, port = self.options.endpoints[0].rpartition(":")
        client = aetcd.Client(host=host, port=int(port))
        await client.connect()
        return client

    async def take(self, name: str) -> int:
        lock = self.locks[name] = self.client.lock(name.encode(), ttl=self.options.lease)
        assert await lock.acquire(timeout=120)
        return now()

    def do_connect(self) -> None:
        self.run(self.client.get(b"warm"))

    def do_acquire(self, election: str, times: int) -> Answer:
        async def take_some() -> list[int]:
            took = []
            for number in range(times):
                began = now()
                took.append(await self.take(f"{election}-{number}") - began)
            return took

        return {"took": self.run(take_some())}

    def do_stand(self, election: str) -> None:
        async def stand() -> None:
            self.taken[election] = asyncio.create_task(self.take(election))
            await asyncio.sleep(0)

        self.run(stand())

    def do_wait(self, name: str) -> Answer:
        async def wait() -> int:
            return await self.taken[name]

        return {"elected": self.run(wait())}

    def do_resign(self, name: str) -> Answer:
        async def resign() -> tuple[int, int]:
            called = now()
            await self.locks[name].release()
            return called, now()

        called, done = self.run(resign())
        return {"called": called, "done": done}

    def do_drop(self, name: str) -> None:
        """The lease, too, which the lock would leave behind."""
        lease = self.locks.pop(name).lease
        if lease is not None:
            self.run(lease.revoke())


if __name__ == "__main__":
    serve(Locks())
