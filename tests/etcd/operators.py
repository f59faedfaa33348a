"""Users and passwords of a real etcd, and what a manager's callbacks receive."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdRefusedError, LossReason
from etcdleader.testing import EtcdServer
from etcdleader.testing._etcd_binary import find_etcd, supports

PATIENCE = 30
PASSWORD = "canary-7f1b-right"
OTHER_PASSWORD = "canary-7f1b-other"
OPTIONS = ["--heartbeat-interval=20", "--election-timeout=200", "--bcrypt-cost=4"]
SHORT_LIVED = ["--auth-token-ttl=1"] if supports(find_etcd(), "--auth-token-ttl") else []


class Operator:
    """An operator with etcdctl, with root's password once etcd has users, and with access to the managers' connection."""

    def __init__(self, server: EtcdServer, election_key: str) -> None:
        self.server = server
        self.user = f"user-{election_key.rpartition('/')[2]}"
        self.role = f"role-{self.user}"
        self._election_key = election_key

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        environment = {"ETCDCTL_API": "3", "ETCDCTL_USER": "root:root", "ETCDCTL_ENDPOINTS": self.server.endpoints[0]}
        command = [str(self.server.etcdctl), *arguments]
        with anyio.fail_after(PATIENCE):
            done = await anyio.run_process(command, input=stdin.encode(), env={**os.environ, **environment})
        return done.stdout.decode()

    async def switch(self, way: str) -> None:
        await self("auth", way)

    async def add_user(self, kind: str = "readwrite") -> None:
        """Make a user that may do ``kind`` in the election, and nothing else."""
        await self("user", "add", self.user, "--interactive=false", stdin=PASSWORD)
        await self("role", "add", self.role)
        await self("user", "grant-role", self.user, self.role)
        await self.permit(kind)

    async def permit(self, kind: str = "readwrite") -> None:
        await self("role", "grant-permission", self.role, kind, "--prefix", f"{self._election_key}/")

    async def forbid(self) -> None:
        await self("role", "revoke-permission", self.role, "--prefix", f"{self._election_key}/")

    async def change_password(self, password: str) -> None:
        await self("user", "passwd", self.user, "--interactive=false", stdin=password)

    def manager(
        self, config: Config, password: str | None = PASSWORD, election_key: str | None = None
    ) -> EtcdLeaderManager:
        user = None if password is None else self.user
        client = EtcdConfig(endpoints=self.server.endpoints, user=user, password=password)
        return EtcdLeaderManager(client, config, election_key or self._election_key)


class Life:
    """A record of what a manager's callbacks received."""

    def __init__(self, manager: EtcdLeaderManager) -> None:
        self.manager = manager
        self.errors: list[Exception] = []
        self.tokens: list[int] = []
        self.lost: list[LossReason | None] = []
        manager.on_elected(lambda manager, term: self.tokens.append(term.token))
        manager.on_ousted(lambda manager, term: self.lost.append(term.loss_reason))
        manager.on_error(self._received)

    def _received(self, manager: object, error: Exception) -> None:
        # An answer that did not come in time says nothing of authentication: the machine may be busy.
        if isinstance(error, EtcdRefusedError):
            self.errors.append(error)

    async def renewed(self, times: int = 1) -> None:
        wanted = self.manager.statistics().renewals + times
        await until(lambda: self.manager.statistics().renewals >= wanted)

    async def in_trouble(self) -> None:
        wanted = self.manager.statistics().renewal_failures + 2
        await until(lambda: self.manager.statistics().renewal_failures >= wanted)

    def refused(self) -> EtcdRefusedError:
        """The one error that there was."""
        (error,) = self.errors
        assert isinstance(error, EtcdRefusedError)
        return error


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.005)


@asynccontextmanager
async def operating(server: EtcdServer, election_key: str) -> AsyncIterator[Operator]:
    operator = Operator(server, election_key)
    if "root" not in await operator("user", "list"):
        await operator("user", "add", "root", "--interactive=false", stdin="root")
        await operator("user", "grant-role", "root", "root")
    await operator.switch("enable")
    yield operator
