"""A member that only learns: it answers connections, and no linearizable read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader.testing import EtcdServer
from etcdleader.testing._etcd_binary import find_etcd
from etcdleader.testing.etcd_server import _free_ports

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="learner", lease=20, renew=0.5, retry=1)


def etcdctl(server: EtcdServer, *arguments: str) -> Any:
    command = [str(server.etcdctl), f"--endpoints={server.endpoints[0]}", "--write-out=json", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EtcdServer, str]]:
    """An etcd of one member, and the address of a learner beside it."""
    with EtcdServer() as server:
        client_port, peer_port = _free_ports(2)
        peer = f"http://127.0.0.1:{peer_port}"
        client = f"http://127.0.0.1:{client_port}"
        (voter,) = etcdctl(server, "member", "list")["members"]
        etcdctl(server, "member", "add", "learner", "--learner", f"--peer-urls={peer}")
        command = [
            str(find_etcd()),
            "--name=learner",
            f"--data-dir={tmp_path_factory.mktemp('learner') / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={voter['name']}={voter['peerURLs'][0]},learner={peer}",
            "--initial-cluster-state=existing",
            "--logger=zap",
        ]
        log = tmp_path_factory.mktemp("log") / "learner.log"
        with Path(log).open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                yield server, f"127.0.0.1:{client_port}"
            finally:
                process.kill()


async def test_a_learner_is_passed_over_for_a_member_that_may_answer(
    learner: tuple[EtcdServer, str], election_key: str
) -> None:
    """It is first in the list, and stands beside a voter that works."""
    server, address = learner
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[address, *server.endpoints]), CONFIG, election_key)
    async with manager:
        with anyio.fail_after(60):
            term = await manager.wait_elected()
            while manager.statistics().renewals < 2:
                assert term.is_valid()
                await anyio.sleep(0.05)


async def test_a_learner_alone_is_an_etcd_that_does_not_answer(
    learner: tuple[EtcdServer, str], election_key: str
) -> None:
    _, address = learner
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[address]), CONFIG, election_key)
    errors: list[str] = []
    manager.on_error(lambda manager, error: errors.append(str(error)))
    async with manager:
        with anyio.fail_after(60):
            while not any("learner" in error for error in errors):
                await anyio.sleep(0.05)
        assert not manager.is_leader()
