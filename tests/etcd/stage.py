"""An election on a real etcd with candidates, and the commands for operators on it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from etcdleader import Config, EtcdLeaderManager
from etcdleader.testing import EtcdServer
from tests.helpers.terminal import PATIENCE, environment, run

__all__ = ("Stage", "go_leader", "until")

CONFIG = Config(enabled=True, id="candidate", lease=30, renew=5, retry=5)


class Stage:
    """An election with candidates, and the commands on it."""

    def __init__(self, server: EtcdServer, election_key: str, folder: Path) -> None:
        self.server, self.election, self.folder = server, election_key, folder
        self.endpoint: tuple[str, ...] = ("--endpoint", server.endpoints[0])

    def manager(self) -> EtcdLeaderManager:
        return EtcdLeaderManager(self.server.config, CONFIG, self.election)

    @asynccontextmanager
    async def candidates(self, count: int) -> AsyncIterator[list[EtcdLeaderManager]]:
        """So many, in the order of the list."""
        managers = [self.manager() for _ in range(count)]
        async with anyio.create_task_group() as group:
            for manager in managers:
                await group.start(manager.campaign)
            await managers[0].wait_elected()
            yield managers
            group.cancel_scope.cancel()

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await anyio.to_thread.run_sync(lambda: run(*arguments, *self.endpoint, folder=self.folder))

    async def json(self, *arguments: str) -> Any:
        return json.loads((await self.run(*arguments, "--json")).stdout)


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.005)


@asynccontextmanager
async def go_leader(stage: Stage) -> AsyncIterator[None]:
    """A leader of etcd's own library, which has no request to step down."""
    with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [str(stage.server.etcdctl), "--endpoints", stage.server.endpoints[0], "elect", stage.election, "go"],
        env=environment(ETCDCTL_API="3"),
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            await anyio.to_thread.run_sync(process.stdout.readline)  # its key, once it leads
            yield
        finally:
            process.kill()
