"""The peer "etcdleader": as its users would call it, on asyncio, trio or uvloop."""

from __future__ import annotations

import logging
import os

import anyio
import anyio.abc

from benchmarks.peers.async_protocol import serve
from benchmarks.peers.protocol import SECOND, Answer, die, now, options
from etcdleader import Config, EtcdConfig, EtcdLeaderManager, LossReason, Term

WAVE = 128


class Ours:
    """Candidates by name, all on one connection. By default, a candidate has its election's name."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.options = options()
        self.client = EtcdConfig(endpoints=self.options.endpoints)
        self.config = Config(
            enabled=True,
            id="bench",
            lease=self.options.lease,
            renew=self.options.renew,
            retry=self.options.retry,
            margin=self.options.margin,
        )
        self.group = group
        self.managers: dict[str, EtcdLeaderManager] = {}
        self.lost = 0

    def manager(self, election: str, name: str = "") -> EtcdLeaderManager:
        manager = EtcdLeaderManager(self.client, self.config, election)

        @manager.on_ousted
        def _(_: object, term: Term) -> None:
            self.lost += term.loss_reason not in {LossReason.RESIGNED, LossReason.STOPPED}

        self.managers[name or election] = manager
        return manager

    async def do_connect(self) -> None:
        """A connection stays open while a manager uses it."""
        manager = self.manager(f"warm-{os.getpid()}")
        self.group.start_soon(manager.campaign)
        await manager.wait_elected()

    async def do_acquire(self, election: str, times: int) -> Answer:
        took = []
        for number in range(times):
            began = now()
            manager = self.manager(f"{election}-{number}")
            self.group.start_soon(manager.campaign)
            await manager.wait_elected()
            took.append(now() - began)
        return {"took": took}

    async def do_acquire_cold(self, election: str) -> Answer:
        """The connection is closed with its only user."""
        took = await self.do_acquire(election, 1)
        await self.do_drop(f"{election}-0")
        return took

    async def do_stand(self, election: str, name: str = "") -> None:
        await self.group.start(self.manager(election, name).campaign)

    async def do_crowd(self, election: str, many: int) -> None:
        """In waves, as the bare calls do it: how they come is not measured."""
        for start in range(0, many, WAVE):
            async with anyio.create_task_group() as group:
                for number in range(start, min(many, start + WAVE)):
                    group.start_soon(self.do_stand, election, f"{election}#{number}")

    async def do_wait(self, name: str) -> Answer:
        await self.managers[name].wait_elected()
        return {"elected": now()}

    async def do_resign(self, name: str) -> Answer:
        called = now()
        await self.managers[name].resign()
        return {"called": called, "done": now()}

    async def do_drop(self, name: str) -> None:
        await self.managers.pop(name).stop()

    async def do_extend(self, name: str, times: int) -> Answer:
        manager = self.managers[name]
        took = []
        for _ in range(times):
            began = now()
            await manager.extend()
            took.append(now() - began)
        return {"took": took}

    async def do_die(self, name: str, number: int) -> None:
        term = self.managers[name].term
        assert term is not None, "it is not the leader"
        # Counted from before the renewal was sent: a little less than from its answer, as the others count.
        die(number, now() + int((term.remaining() + self.config.margin) * SECOND))

    async def do_hold(self, election: str, many: int) -> Answer:
        began = now()
        managers = [self.manager(f"{election}-{number}") for number in range(many)]
        for manager in managers:
            self.group.start_soon(manager.campaign)
        for manager in managers:
            await manager.wait_elected()
        return {"began": began, "done": now()}

    async def do_stand_many(self, election: str, many: int) -> None:
        async with anyio.create_task_group() as group:
            for number in range(many):
                group.start_soon(self.do_stand, f"{election}-{number}")

    async def do_wait_many(self, election: str, many: int) -> Answer:
        for number in range(many):
            await self.managers[f"{election}-{number}"].wait_elected()
        return {"last": now()}

    async def do_drop_many(self, election: str, many: int) -> Answer:
        called = now()
        async with anyio.create_task_group() as group:
            for number in range(many):
                group.start_soon(self.do_drop, f"{election}-{number}")
        return {"called": called}

    async def do_lost(self) -> Answer:
        return {"lost": self.lost}


if __name__ == "__main__":
    logging.disable()
    backend = options().backend
    if backend == "uvloop":
        anyio.run(serve, Ours, backend="asyncio", backend_options={"use_uvloop": True})
    else:
        anyio.run(serve, Ours, backend=backend)
