"""A cluster of three real members, each of which may go: leadership stays as long as a quorum answers."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, LeaderRecord, LossReason, Term
from etcdleader.testing import EtcdServer
from tests.helpers.answered import answered

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="members", lease=20, renew=0.25, retry=0.5)
SHORT = Config(enabled=True, id="short", lease=6, renew=0.5, retry=0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdServer]:
    """Of three members, all of which are well again after each test."""
    with EtcdServer(members=3) as server:
        yield server


@pytest.fixture(autouse=True)
async def well_again(cluster: EtcdServer) -> AsyncIterator[None]:
    yield
    for member in cluster.members:
        if member.running:
            member.resume()
        else:
            await anyio.to_thread.run_sync(member.restart)


async def renewed(manager: EtcdLeaderManager, term: Term, times: int = 2) -> None:
    """Wait until renewals were confirmed, by any member."""
    enough = manager.statistics().renewals + times
    with anyio.fail_after(60):
        while manager.statistics().renewals < enough:
            assert term.is_valid()
            await anyio.sleep(0.02)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_each_member_may_go_and_leadership_stays(cluster: EtcdServer, election_key: str, how: str) -> None:
    """One of them is etcd's own leader, and one is the member that is spoken to."""
    manager = EtcdLeaderManager(cluster.config, CONFIG, election_key)
    watcher = EtcdLeaderManager(cluster.config, CONFIG, election_key)
    seen: list[LeaderRecord | None] = []

    async def watch() -> None:
        async with watcher.observe() as leaders:
            async for leader in leaders:
                seen.append(leader)  # noqa: PERF401 - it never ends by itself

    async with manager, anyio.create_task_group() as group:
        term = await manager.wait_elected()
        group.start_soon(watch)
        for member in cluster.members:
            await renewed(manager, term)
            member.kill() if how == "kill" else member.pause()
            await renewed(manager, term, 3)
            if how == "kill":
                await anyio.to_thread.run_sync(member.restart)
            else:
                member.resume()
        # The streams work again, too: the observer also receives an operator's deletion.
        await renewed(manager, term)
        etcdctl(cluster, "del", term.key)
        with anyio.fail_after(60):
            while term.loss_reason is None:
                await anyio.sleep(0.02)
            again = await manager.wait_elected()
            while again.token not in {record.token for record in seen if record is not None}:
                await anyio.sleep(0.02)
        assert term.loss_reason is LossReason.DELETED
        assert again.token > term.token
        group.cancel_scope.cancel()


async def test_without_a_quorum_a_leader_stops_and_leads_again_when_there_is_one(
    cluster: EtcdServer, election_key: str
) -> None:
    manager = EtcdLeaderManager(cluster.config, SHORT, election_key)
    async with manager:
        term = await manager.wait_elected()
        for member in cluster.members[1:]:
            member.pause()
        with anyio.fail_after(60):
            while term.loss_reason is None:
                await anyio.sleep(0.02)
        assert term.loss_reason is LossReason.EXPIRED
        for member in cluster.members[1:]:
            member.resume()
        with anyio.fail_after(60):
            assert (await manager.wait_elected()).token > term.token


async def test_an_endpoint_of_another_cluster_is_refused(
    cluster: EtcdServer, etcd_server: EtcdServer, election_key: str
) -> None:
    """Two clusters behind one list of endpoints would mean two leaders."""
    etcd = EtcdConfig(endpoints=[*cluster.endpoints, *etcd_server.endpoints])
    manager = EtcdLeaderManager(etcd, SHORT, election_key)
    errors: list[str] = []
    manager.on_error(lambda manager, error: errors.append(str(error)))
    async with manager:
        term = await manager.wait_elected()
        for member in cluster.members:
            member.pause()
        with anyio.fail_after(60):
            while not any("belongs to cluster" in error for error in errors) or term.loss_reason is None:
                await anyio.sleep(0.02)
        assert not any(record.identity == manager.identity for record in await in_other(etcd_server, election_key))
        for member in cluster.members:
            member.resume()
        with anyio.fail_after(60):
            assert (await manager.wait_elected()).token > term.token


async def in_other(server: EtcdServer, election_key: str) -> list[LeaderRecord]:
    return await answered(EtcdLeaderManager(server.config, CONFIG, election_key).candidates)


async def test_dead_addresses_are_passed_over(cluster: EtcdServer, election_key: str) -> None:
    """A list may hold what is no member, or not now."""
    etcd = EtcdConfig(endpoints=["127.0.0.1:1", "[::1]:1", "no-such-host.invalid:2379", *cluster.endpoints])
    manager = EtcdLeaderManager(etcd, CONFIG, election_key)
    async with manager:
        with anyio.fail_after(60):
            term = await manager.wait_elected()
            await renewed(manager, term)


def etcdctl(server: EtcdServer, *arguments: str) -> None:
    subprocess.run(
        [server.etcdctl, f"--endpoints={','.join(server.endpoints)}", *arguments],
        check=True,
        capture_output=True,
        timeout=60,
    )
