"""A planned restart of a member, which announces its end: a candidate goes to another member without a warning."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader.testing import EtcdServer
from tests.helpers.etcd_leader import leader_and_others

pytestmark = pytest.mark.anyio

# Neither this process nor a member that stands still for a second or two may cause a warning here.
CONFIG = Config(enabled=True, id="restart", lease=60, renew=0.25, retry=10)
OPTIONS = ["--election-timeout=5000"]
PATIENCE = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdServer]:
    with EtcdServer(members=3, extra_args=OPTIONS) as server:
        yield server


async def renewed(manager: EtcdLeaderManager, times: int) -> None:
    """Wait until renewals were confirmed, by any member."""
    enough = manager.statistics().renewals + times
    with anyio.fail_after(PATIENCE):
        while manager.statistics().renewals < enough:
            await anyio.sleep(0.02)


async def test_a_planned_restart_of_a_member_costs_no_warning(
    cluster: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """etcd announces its end (GOAWAY), and lets calls end. Each of the other members is as good."""
    if cluster.version == "3.5.1":
        pytest.skip("etcd 3.5.1 closes its connections without GOAWAY")
    leader, _ = await leader_and_others(cluster)
    member = cluster.members[(leader + 1) % len(cluster.members)]
    others = [endpoint for endpoint in cluster.endpoints if endpoint != member.endpoint]
    etcd = EtcdConfig(endpoints=[member.endpoint, *others])
    manager, waiting = (EtcdLeaderManager(etcd, CONFIG, election_key) for _ in range(2))
    errors: list[str] = []
    for one in (manager, waiting):
        one.on_error(lambda manager, error: errors.append(str(error)))
    with caplog.at_level(logging.WARNING, logger="etcdleader"):
        async with manager:
            term = await manager.wait_elected()
            async with waiting:
                await renewed(manager, 2)
                os.kill(member.pid, signal.SIGTERM)
                with anyio.fail_after(PATIENCE):
                    while member.running:
                        await anyio.sleep(0.02)
                await renewed(manager, 4)
                assert manager.term is term
                await manager.stop()
                with anyio.fail_after(PATIENCE):
                    await waiting.wait_elected()
    await anyio.to_thread.run_sync(member.restart)  # for the next test
    assert errors == []
    assert caplog.messages == []
