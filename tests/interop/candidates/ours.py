"""A candidate of etcdleader that tests drive over its standard streams, by the protocol of ``tests.interop.program``.

It has two commands that other libraries lack. ``rejoin NAME [TO]`` calls ``manager.resign()``, which keeps the candidate in
the queue, and prints ``rejoining``. With TO it hands over to the candidate of that identity. ``candidates NAME ELECTION`` prints the queue as ``candidates`` with ``records``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, LeaderManager, LeaderRecord, Term

RETRY_SECONDS = 1.5
"""The time for a call, for which etcd may be late by a second, and the pause before a candidate rejoins the queue."""
SHORTEST_RETRY_SECONDS = 0.5
"""For leases that are too short for it."""


def emit(name: str, event: str, **more: Any) -> None:
    print(json.dumps({"name": name, "event": event, **more}), flush=True)


def fields(record: LeaderRecord | None) -> dict[str, Any]:
    if record is None:
        return {}
    value = record.identity if record.advertised is None else f"{record.identity} at {record.advertised}"
    return {"key": record.key, "value": value, "token": record.token, "lease": record.lease_id}


class Program:
    """The managers of one process, by the names of their candidates."""

    def __init__(self, config: EtcdConfig, group: TaskGroup) -> None:
        self._config = config
        self._group = group
        self._managers: dict[str, EtcdLeaderManager] = {}

    def _reader(self, election: str) -> EtcdLeaderManager:
        return EtcdLeaderManager(self._config, Config(), election)

    async def campaign(self, name: str, election: str, ttl: str) -> None:
        retry = RETRY_SECONDS if int(ttl) > 4 * RETRY_SECONDS else SHORTEST_RETRY_SECONDS
        config = Config(enabled=True, id=name, lease=int(ttl), renew=int(ttl) / 4, retry=retry)
        manager = EtcdLeaderManager(self._config, config, election)

        def elected(_: LeaderManager, term: Term) -> None:
            record = LeaderRecord(term.identity, term.token, term.key, term.lease_id)
            emit(name, "elected", **fields(record))

        def ousted(_: LeaderManager, term: Term) -> None:
            if term.loss_reason is not None and term.loss_reason.name not in {"STOPPED", "RESIGNED"}:
                emit(name, "lost", reason=term.loss_reason.name)

        manager.on_elected(elected)
        manager.on_ousted(ousted)
        self._managers[name] = manager
        self._group.start_soon(manager.campaign)

    async def resign(self, name: str) -> None:
        """Leave the queue, as the same command does with other libraries."""
        await self._managers.pop(name).stop()
        emit(name, "resigned")

    async def proclaim(self, name: str, value: str) -> None:
        await self._managers[name].advertise(value)
        emit(name, "proclaimed")

    async def rejoin(self, name: str, to: str | None = None) -> None:
        await self._managers[name].resign(to=to)
        emit(name, "rejoining")

    async def observe(self, name: str, election: str) -> None:
        self._group.start_soon(self._observe, name, election)

    async def _observe(self, name: str, election: str) -> None:
        async with self._reader(election).observe() as leaders:
            async for record in leaders:
                emit(name, "observed", **fields(record))

    async def leader(self, name: str, election: str) -> None:
        emit(name, "leader", **fields(await self._reader(election).leader()))

    async def candidates(self, name: str, election: str) -> None:
        records = await self._reader(election).candidates()
        emit(name, "candidates", records=[fields(record) for record in records])

    async def run(self, words: list[str]) -> None:
        op, name, *arguments = words
        try:
            await getattr(self, op)(name, *arguments)
        except Exception as error:  # noqa: BLE001 - the test decides what a failed command means
            emit(name, "failed", error=repr(error))


async def main(endpoints: list[str]) -> None:
    async with anyio.create_task_group() as group:
        program = Program(EtcdConfig(endpoints=endpoints), group)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            await program.run(line.split())
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[2:], backend=sys.argv[1])
