"""A password that is changed while a leader runs, with the new one in its ``password_file``, on a real etcd."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader.testing import EtcdServer
from tests.etcd.operators import OPTIONS, OTHER_PASSWORD, PASSWORD, PATIENCE, Life, Operator, operating, until
from tests.helpers.answered import answered

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="auth", lease=60, renew=0.25, retry=1)


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    with EtcdServer(extra_args=[*OPTIONS, "--auth-token=simple"]) as server:
        yield server


@pytest.fixture
async def operator(server: EtcdServer, election_key: str) -> AsyncIterator[Operator]:
    async with operating(server, election_key) as operator:
        await operator.add_user()
        yield operator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "password", f"{PASSWORD}\n")


def write(path: Path, text: str) -> Path:
    """Replace the file at once: a login that reads a file just truncated reports an empty one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    return new.replace(path)


def manager_of(operator: Operator, path: Path, election_key: str) -> EtcdLeaderManager:
    etcd = EtcdConfig(operator.server.endpoints, operator.user, password_file=path)
    return EtcdLeaderManager(etcd, CONFIG, election_key)


@pytest.mark.parametrize("first", ["file", "etcd"])
async def test_a_changed_password_costs_no_leadership_and_needs_no_restart(
    operator: Operator, path: Path, election_key: str, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """etcd discards the token of a user whose password is changed. The next login reads the file."""
    manager = manager_of(operator, path, election_key)
    life = Life(manager)
    with caplog.at_level(logging.DEBUG):
        async with manager:
            with anyio.fail_after(PATIENCE):
                term = await manager.wait_elected()
            await life.renewed()
            if first == "file":
                write(path, f"{OTHER_PASSWORD}\n")
                await operator.change_password(OTHER_PASSWORD)
            else:
                await operator.change_password(OTHER_PASSWORD)
                await until(lambda: life.errors)
                assert f"with password_file = '{path}'" in str(life.refused())
                write(path, f"{OTHER_PASSWORD}\n")
            await life.renewed(3)
            with anyio.fail_after(PATIENCE):
                assert await answered(lambda: manager.extend(term)) is term
    assert len(life.errors) == (0 if first == "file" else 1)
    shown = caplog.text + repr(manager) + repr(manager._client) + str(life.errors)
    assert "canary" not in shown


@pytest.mark.parametrize(("content", "reported"), [(None, "does not exist"), ("\n", "is empty")])
async def test_a_leader_outlives_a_file_that_is_missing_for_a_while(
    operator: Operator, path: Path, election_key: str, content: str | None, reported: str
) -> None:
    manager = manager_of(operator, path, election_key)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await life.renewed()
        remove(path) if content is None else write(path, content)
        await operator.change_password(OTHER_PASSWORD)
        await life.in_trouble()
        assert reported in str(life.refused())
        assert manager.term is term
        write(path, OTHER_PASSWORD)
        await life.renewed(3)
        assert manager.term is term
    assert len(life.errors) == 1


def remove(path: Path) -> None:
    path.unlink()
