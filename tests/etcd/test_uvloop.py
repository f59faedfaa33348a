"""On uvloop: the library's connections go by the loop's own transports, and that is another loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError, LossReason, Term
from etcdleader.testing import EtcdServer
from tests.etcd.certificates import Authority

pytest.importorskip("uvloop")
pytestmark = pytest.mark.anyio
CONFIG = Config(enabled=True, id="uvloop", lease=6, renew=1, retry=2)
PATIENCE = 60


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdConfig]:
    authority = Authority(tmp_path_factory.mktemp("uvloop"))
    member = authority.server()
    with EtcdServer(cert=member.cert, key=member.key) as server:
        yield EtcdConfig(server.endpoints, ca_cert=authority.cert)


async def lead(etcd: EtcdConfig, election_key: str) -> None:
    manager = EtcdLeaderManager(etcd, CONFIG, election_key)

    async def work(term: Term) -> int:
        assert await manager.extend(term) is term
        return term.token

    with anyio.fail_after(PATIENCE):
        first, second = await manager.run(work), await manager.run(work)
    assert first is not None
    assert second is not None
    assert first < second


async def test_one_leads_and_another_one_after_it(etcd_server: EtcdServer, election_key: str) -> None:
    await lead(etcd_server.config, election_key)


async def test_one_leads_by_the_name_of_a_host(etcd_server: EtcdServer, election_key: str) -> None:
    named = [endpoint.replace("127.0.0.1", "localhost") for endpoint in etcd_server.endpoints]
    await lead(EtcdConfig(named), election_key)


async def test_one_leads_over_tls(tls: EtcdConfig, election_key: str) -> None:
    await lead(tls, election_key)


async def test_a_certificate_that_is_not_trusted_is_refused(tls: EtcdConfig, tmp_path: Path, election_key: str) -> None:
    strange = Authority(tmp_path)
    manager = EtcdLeaderManager(EtcdConfig(tls.endpoints, ca_cert=strange.cert), CONFIG, election_key)
    with anyio.fail_after(PATIENCE), pytest.raises(Exception, match=r"the certificate of .* was refused"):
        await manager.leader()


async def test_a_leader_whose_etcd_dies_stops_leading(election_key: str) -> None:
    async with EtcdServer() as server:
        manager = EtcdLeaderManager(server.config, CONFIG, election_key)
        with anyio.fail_after(PATIENCE):
            async with manager:
                term = await manager.wait_elected()
                server.members[0].kill()
                with pytest.raises(EtcdUnavailableError):
                    await manager.extend(term)
                while term.is_valid():
                    await anyio.sleep(0.01)
                assert term.loss_reason in {None, LossReason.EXPIRED}
