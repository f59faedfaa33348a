"""Authentication as current servers do it: a keep-alive is refused alone, and a token ends without a word."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdRefusedError, Term
from etcdleader.testing import EtcdServer
from etcdleader.testing._etcd_binary import find_etcd, supports
from tests.etcd.certificates import jwt_key

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

LEASE, LEASE_OF_MANY = 8, 60
"""Seconds. The short one is left to run out: with 4 s the test passes on a machine that is not busy."""
PATIENCE = 60
PASSWORD = "canary-5c2e"
OPTIONS = ["--heartbeat-interval=20", "--election-timeout=200", "--bcrypt-cost=10"]


class Operator:
    """Root, with etcdctl."""

    def __init__(self, server: EtcdServer) -> None:
        self._server = server

    def __call__(self, *arguments: str, stdin: str = "") -> None:
        environment = {
            **os.environ,
            "ETCDCTL_API": "3",
            "ETCDCTL_USER": "root:root",
            "ETCDCTL_ENDPOINTS": self._server.endpoints[0],
        }
        command = [str(self._server.etcdctl), *arguments]
        subprocess.run(
            command, input=stdin, text=True, check=True, capture_output=True, timeout=PATIENCE, env=environment
        )

    async def later(self, *arguments: str, stdin: str = "") -> None:
        await anyio.to_thread.run_sync(lambda: self(*arguments, stdin=stdin))

    def add_user(self, name: str, *prefixes: str) -> EtcdConfig:
        self("user", "add", name, "--interactive=false", stdin=PASSWORD)
        self("role", "add", name)
        self("user", "grant-role", name, name)
        for prefix in prefixes:
            self("role", "grant-permission", name, "readwrite", "--prefix", prefix)
        return EtcdConfig(endpoints=self._server.endpoints, user=name, password=PASSWORD)


@pytest.fixture(params=["simple", "jwt"])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Operator]:
    """Tokens live for four seconds."""
    tokens = ["--auth-token=simple", *(["--auth-token-ttl=4"] if supports(find_etcd(), "--auth-token-ttl") else [])]
    if request.param == "jwt":
        tokens = [f"--auth-token=jwt,{jwt_key(tmp_path)},ttl=4s"]
    with EtcdServer(extra_args=[*OPTIONS, *tokens]) as server:
        operator = Operator(server)
        operator("user", "add", "root", "--interactive=false", stdin="root")
        operator("user", "grant-role", "root", "root")
        operator("auth", "enable")
        yield operator


class Leader:
    """A leader, and the errors that it has received."""

    def __init__(self, etcd: EtcdConfig, election: str, lease: float = LEASE) -> None:
        config = Config(enabled=True, id="refused", lease=lease, renew=0.5, retry=min(lease / 5, 4), margin=1)
        self.manager = EtcdLeaderManager(etcd, config, election)
        self.refusals: list[EtcdLeaderError] = []
        self.terms: list[Term] = []
        self.manager.on_error(self._received)
        self.manager.on_elected(lambda _, term: self.terms.append(term))

    def _received(self, manager: object, error: EtcdLeaderError) -> None:
        # An answer that did not come in time says nothing of authentication: the machine may be busy.
        if isinstance(error, EtcdRefusedError):
            self.refusals.append(error)

    async def renewed(self) -> None:
        """Wait for two more confirmed renewals, or for the end of the term. The second renewal began after this call."""
        wanted = self.manager.statistics().renewals + 2
        await until(lambda: self.manager.statistics().renewals >= wanted or not self.leads_as_before())

    def leads_as_before(self) -> bool:
        return len(self.terms) == 1 and self.manager.is_leader()


@asynccontextmanager
async def leading(*leaders: Leader) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        for leader in leaders:
            group.start_soon(leader.manager.campaign)
        with anyio.fail_after(PATIENCE):
            for leader in leaders:
                await leader.manager.wait_elected()
        yield
        group.cancel_scope.cancel()


async def all_renewed(*leaders: Leader) -> None:
    async with anyio.create_task_group() as group:
        for leader in leaders:
            group.start_soon(leader.renewed)


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.01)


async def test_users_tokens_and_one_revoked_right_affect_no_other_user(operator: Operator) -> None:
    """A token that has expired, a revision of the users that has moved, authentication off and on: each is a silent login."""
    etcd = operator.add_user("candidate", "first/", "second/", "third/")
    first, second, third = (Leader(etcd, election) for election in ("first", "second", "third"))
    async with leading(first, second, third):
        for number in range(3):
            await first.renewed()
            await operator.later("user", "add", f"another-{number}", "--interactive=false", stdin=PASSWORD)
        await anyio.sleep(5)  # longer than a token lives
        await operator.later("auth", "disable")
        await all_renewed(first, second, third)
        await operator.later("auth", "enable")
        await all_renewed(first, second, third)
        assert [leader.refusals for leader in (first, second, third)] == [[], [], []]
        await operator.later("role", "revoke-permission", "candidate", "--prefix", "third/")
        await until(lambda: not third.manager.is_leader())
        await all_renewed(first, second)
        assert first.leads_as_before()
        assert second.leads_as_before()
        assert (first.refusals, second.refusals) == ([], [])
        assert third.refusals


async def test_of_two_hundred_leaders_those_whose_right_is_revoked_cost_the_others_nothing(operator: Operator) -> None:
    """Each refusal ends the stream, and all keep-alives that were not refused yet are sent again."""
    etcd = operator.add_user("candidate", "kept/", "revoked/")
    kept = [Leader(etcd, f"kept/{number}", LEASE_OF_MANY) for number in range(50)]
    revoked = [Leader(etcd, f"revoked/{number}", LEASE_OF_MANY) for number in range(150)]
    async with leading(*kept, *revoked):
        await operator.later("role", "revoke-permission", "candidate", "--prefix", "revoked/")
        await until(lambda: all(leader.refusals for leader in revoked))
        await all_renewed(*kept)  # while the others go on being refused
        lost = [leader.manager.identity for leader in kept if not leader.leads_as_before()]
        assert lost == []
        assert [leader.refusals for leader in kept if leader.refusals] == []
