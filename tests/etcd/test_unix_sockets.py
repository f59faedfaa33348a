"""Elections over a unix socket of a real etcd."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError, Term
from etcdleader.testing import EtcdServer
from etcdleader.testing._etcd_binary import find_etcd, version_of
from tests.etcd.certificates import Authority
from tests.helpers.unix_relay import relay

pytestmark = pytest.mark.anyio
CONFIG = Config(enabled=True, id="unix", lease=30, renew=0.5, retry=2)
PATIENCE = 60


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
        return "asyncio", {"use_uvloop": True}
    return request.param, {}


@dataclass(frozen=True)
class Site:
    server: EtcdServer
    path: str
    ca: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One member that listens on a unix socket only, without TLS. Its health is asked for at another address.

    Before 3.5.13 etcd refuses a path. There a relay listens on the socket.
    """
    authority = Authority(tmp_path_factory.mktemp("unix"))
    member = authority.server()
    with tempfile.TemporaryDirectory(prefix="etcd") as folder:
        path = str(Path(folder, "client.sock"))
        if tuple(map(int, version_of(find_etcd()).split("."))) < (3, 5, 13):
            with EtcdServer() as server, relay(path, server.endpoints[0]):
                yield Site(server, path, authority.cert)
            return
        options = ["--listen-client-urls", f"unix://{path}"]
        with EtcdServer(cert=member.cert, key=member.key, extra_args=options) as server:
            yield Site(server, path, authority.cert)


@pytest.mark.parametrize("spelling", ["unix:{}", "unix://{}"])
async def test_one_leads_and_another_one_after_it(site: Site, election_key: str, spelling: str) -> None:
    manager = EtcdLeaderManager(EtcdConfig(spelling.format(site.path)), CONFIG, election_key)

    async def work(term: Term) -> int:
        assert await manager.extend(term) is term
        return term.token

    with anyio.fail_after(PATIENCE):
        first, second = await manager.run(work), await manager.run(work)
    assert first is not None
    assert second is not None
    assert first < second


async def test_a_unix_socket_never_uses_tls(site: Site, election_key: str) -> None:
    """An authority that other endpoints need does not matter to it."""
    manager = EtcdLeaderManager(EtcdConfig(f"unix:{site.path}", ca_cert=site.ca), CONFIG, election_key)
    with anyio.fail_after(PATIENCE):
        assert await manager.run(token_of) is not None


async def test_a_leader_survives_a_restart_of_the_member_behind_the_socket(site: Site, election_key: str) -> None:
    manager = EtcdLeaderManager(EtcdConfig(f"unix:{site.path}"), CONFIG, election_key)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            await anyio.to_thread.run_sync(site.server.members[0].restart)
            while True:
                try:
                    assert await manager.extend(term) is term
                    break
                except EtcdUnavailableError:
                    await anyio.sleep(0.05)


async def test_the_error_names_a_socket_that_is_missing(election_key: str) -> None:
    manager = EtcdLeaderManager(EtcdConfig("unix:/no/such.sock"), CONFIG, election_key)
    with pytest.raises(EtcdUnavailableError, match=r"unix:/no/such\.sock: .*No such file or directory"):
        await manager.leader()


def test_commands_take_a_unix_socket(site: Site, election_key: str) -> None:
    command = [sys.executable, "-m", "etcdleader", "doctor", election_key, "--endpoint", f"unix:{site.path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, output
    assert "none, within this machine" in output
    assert "no endpoint is etcd's grpc-proxy" in output


async def token_of(term: Term) -> int:
    return term.token
