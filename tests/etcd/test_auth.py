"""Users, passwords, tokens and permissions of a real etcd: which changes cost leadership, and which errors are reported."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdRefusedError, LeaderRecord, LossReason
from etcdleader._etcd.auth import Authenticator
from etcdleader._etcd.client import EtcdClient
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import EtcdServer
from tests.etcd.certificates import jwt_key
from tests.etcd.operators import (
    OPTIONS,
    OTHER_PASSWORD,
    PASSWORD,
    PATIENCE,
    SHORT_LIVED,
    Life,
    Operator,
    operating,
    until,
)
from tests.helpers.answered import answered

pytestmark = pytest.mark.anyio

LONG = Config(enabled=True, id="auth", lease=60, renew=0.25, retry=1)
LAZY = Config(enabled=True, id="auth", lease=60, renew=20, retry=2)
"""Here only the watch can be what noticed."""
SHORT = Config(enabled=True, id="auth", lease=6, renew=0.5, retry=0.5, margin=1)


def watches() -> int:
    """Return the number of watches on the only connection."""
    (connection,) = connections._pool.values()
    assert isinstance(connection.api, EtcdClient)
    return len(connection.api._watches._by_id)


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list to which each login adds an item."""
    counted: list[None] = []
    authenticate = Authenticator._authenticate

    async def counting(*arguments: Any) -> Any:
        counted.append(None)
        return await authenticate(*arguments)

    monkeypatch.setattr(Authenticator, "_authenticate", counting)
    return counted


@pytest.fixture(scope="module")
def simple_server() -> Iterator[EtcdServer]:
    with EtcdServer(extra_args=[*OPTIONS, "--auth-token=simple", *SHORT_LIVED]) as server:
        yield server


@pytest.fixture(scope="module")
def jwt_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    key = jwt_key(tmp_path_factory.mktemp("jwt"))
    with EtcdServer(extra_args=[*OPTIONS, f"--auth-token=jwt,{key},ttl=1s"]) as server:
        yield server


@pytest.fixture(params=["simple", "jwt"])
def server(request: pytest.FixtureRequest) -> EtcdServer:
    """Tokens of it that are not used live for one second; with jwt, also those that are."""
    if request.param == "simple" and not SHORT_LIVED:
        pytest.skip("simple tokens of this etcd live for five minutes")
    found: EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
async def operator(server: EtcdServer, election_key: str) -> AsyncIterator[Operator]:
    async with operating(server, election_key) as operator:
        await operator.add_user()
        yield operator


@pytest.fixture
async def simple(simple_server: EtcdServer, election_key: str) -> AsyncIterator[Operator]:
    """An operator of etcd with simple tokens, for tests in which the kind of tokens makes no difference."""
    async with operating(simple_server, election_key) as operator:
        yield operator


async def test_a_leader_outlives_its_tokens_and_still_sees_and_does_everything(
    operator: Operator, logins: list[None]
) -> None:
    # Renewed more seldom than a simple token lives, since use prolongs it.
    manager = operator.manager(Config(enabled=True, id="auth", lease=60, renew=2.5, retry=5))
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await until(lambda: len(logins) >= 3)
        await life.renewed()
        assert manager.term is term
        assert await manager.extend(term) is term
        await operator("del", term.key)
        with anyio.fail_after(LAZY.renew - 5):  # sooner than the next renewal
            await until(lambda: life.lost)
        assert life.lost == [LossReason.DELETED]
        with anyio.fail_after(PATIENCE):
            again = await manager.wait_elected()
            await anyio.sleep(1.5)
            await manager.resign()
        assert again.loss_reason is LossReason.RESIGNED
        assert again.key not in await operator("get", "--keys-only", "--prefix", "tests/")
    assert life.errors == []


async def test_a_manager_on_a_connection_with_an_expired_token_is_woken_by_its_watch(
    operator: Operator, election_key: str
) -> None:
    """A stream keeps the token that it was opened with, and etcd looks at it when a watch is created."""
    first, second = operator.manager(LAZY), operator.manager(LAZY)
    async with first:
        with anyio.fail_after(PATIENCE):
            await first.wait_elected()
        await until(watches)
        await anyio.sleep(2.5)  # the token's life, and etcd's pace of looking for dead ones
        async with second:
            await until(lambda: second.statistics().queue_position == 1)
            await until(lambda: watches() == 2)
            await first.resign()
            with anyio.fail_after(LAZY.renew - 5):
                await second.wait_elected()


async def test_changes_of_other_users_and_roles_cost_nothing(operator: Operator) -> None:
    manager = operator.manager(LONG)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        for number in range(3):
            await operator("role", "add", f"{operator.role}-{number}")
            await operator("user", "add", f"{operator.user}-{number}:x")
            await life.renewed(2)
        assert manager.term is term
    assert life.errors == []


async def test_switching_authentication_on_and_off_costs_nothing_where_a_user_is_set(operator: Operator) -> None:
    await operator.switch("disable")
    manager, later = operator.manager(LONG), operator.manager(LONG)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await until(watches)
        for _ in range(2):
            await operator.switch("enable")
            await life.renewed(2)
            await operator.switch("disable")
            await life.renewed(2)
        assert manager.term is term
        await operator.switch("enable")
        async with later:
            await until(lambda: watches() == 2)
        await operator("del", term.key)
        await until(lambda: life.lost)
    assert life.lost[0] is LossReason.DELETED
    assert life.errors == []


async def test_a_wrong_password_is_reported_once_and_retried_until_it_is_right(
    simple: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await simple.add_user()
    manager = simple.manager(LONG, OTHER_PASSWORD)
    life = Life(manager)
    async with manager:
        await until(lambda: manager.statistics().etcd_errors >= 3)
        assert f"user '{simple.user}' cannot log in" in str(life.refused())
        await simple.change_password(OTHER_PASSWORD)
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()
        assert len(life.errors) == 1
        shown = [caplog.text, repr(manager), repr(manager._client), str(vars(manager))]
    shown += traceback.format_exception(life.errors[0])
    assert "canary" not in "".join(shown)


async def test_a_candidate_without_a_user_reports_enabled_authentication_and_continues_when_it_is_off_again(
    simple: Operator,
) -> None:
    await simple.switch("disable")
    manager = simple.manager(LONG, None)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await simple.switch("enable")
        await life.in_trouble()
        assert "set user and password" in str(life.refused())
        await simple.switch("disable")
        await life.renewed()
        assert manager.term is term
    assert len(life.errors) == 1


@pytest.mark.parametrize("taken", ["password", "permission"])
async def test_a_leader_whose_rights_are_taken_away_leads_until_its_deadline_and_again_when_they_are_back(
    operator: Operator, taken: str
) -> None:
    manager = operator.manager(SHORT)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await life.renewed()
        if taken == "password":
            await operator.change_password(OTHER_PASSWORD)
        else:
            await operator.forbid()
        await life.in_trouble()
        assert manager.term is term
        words = "cannot log in" if taken == "password" else "permission denied"
        await until(lambda: life.lost)
        assert words in str(life.refused())
        assert life.lost == [LossReason.EXPIRED]
        if taken == "password":
            await operator.change_password(PASSWORD)
        else:
            await operator.permit()
        with anyio.fail_after(PATIENCE):
            assert (await manager.wait_elected()).token > term.token
    assert len(life.errors) == 1


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_half_a_permission_is_none(simple: Operator, kind: str) -> None:
    """A candidate reads the queue in the transaction by which it joins."""
    await simple.add_user(kind)
    manager = simple.manager(LONG)
    life = Life(manager)
    async with manager:
        await until(lambda: manager.statistics().etcd_errors >= 3)
        assert "permission denied" in str(life.refused())
        if kind == "write":
            with pytest.raises(EtcdRefusedError):
                await answered(manager.leader)
        else:
            assert await answered(manager.leader) is None
        await simple.permit()
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()


async def test_a_refused_watch_ends_no_other_watch(simple: Operator, election_key: str) -> None:
    """etcd 3.5 refuses a watch by an answer that bears the number of another one, which stands."""
    await simple.add_user()
    permitted, forbidden = simple.manager(LAZY), simple.manager(LAZY, election_key=f"{election_key}-x")
    life, other = Life(permitted), Life(forbidden)
    async with permitted:
        with anyio.fail_after(PATIENCE):
            term = await permitted.wait_elected()
        await until(watches)
        async with forbidden, forbidden.observe() as leaders, anyio.create_task_group() as group:
            group.start_soon(follow, leaders)
            await until(lambda: forbidden.statistics().etcd_errors >= 5)
            assert "permission denied" in str(other.refused())
            group.cancel_scope.cancel()
        assert permitted.term is term
        await simple("del", term.key)
        with anyio.fail_after(LAZY.renew - 5):
            await until(lambda: life.lost)
    assert life.lost == [LossReason.DELETED]
    assert life.errors == []


async def test_a_permission_that_one_leader_lost_costs_no_other_its_renewals(
    simple: Operator, election_key: str
) -> None:
    """The renewals of one connection are confirmed by one read: refused, it says nothing of the others."""
    await simple.add_user()
    await simple("role", "grant-permission", simple.role, "readwrite", "--prefix", f"{election_key}-x/")
    permitted, forbidden = simple.manager(LONG, election_key=f"{election_key}-x"), simple.manager(LONG)
    life, other = Life(permitted), Life(forbidden)
    async with permitted, forbidden:
        with anyio.fail_after(PATIENCE):
            await permitted.wait_elected()
            await forbidden.wait_elected()
        await simple.forbid()
        for _ in range(3):
            # With the loop blocked for so long, both are due when it goes on: they are renewed together.
            time.sleep(2 * LONG.renew)  # noqa: ASYNC251
            await life.renewed()
        await other.in_trouble()
    assert life.errors == []


async def follow(leaders: AsyncIterator[LeaderRecord | None]) -> None:
    async for _ in leaders:
        pass
