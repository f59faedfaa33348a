"""Elections on real members that are found by SRV records, asked of a DNS server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError, Term
from etcdleader._cli.checks import check_etcd
from etcdleader._cli.findings import Finding
from etcdleader._election.admin import connected
from etcdleader._etcd.client import EtcdClient
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import EtcdServer
from tests.etcd.certificates import Authority
from tests.helpers.dns_server import DnsServer, dns_server

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="srv", lease=30, renew=0.5, retry=2)
DOMAIN = "example.org"
ETCD = EtcdConfig(f"srv:{DOMAIN}")
PATIENCE = 60


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdServer]:
    async with EtcdServer(3) as server:
        yield server


def member_in_use(cluster: EtcdServer) -> int:
    """Its place in the cluster, by the one connection that there is."""
    (connection,) = connections._pool.values()
    assert isinstance(connection.api, EtcdClient)
    assert connection.api._endpoint is not None
    port = connection.api._endpoint.name.rpartition(":")[2]
    return next(n for n, endpoint in enumerate(cluster.endpoints) if endpoint.endswith(f":{port}"))


async def extended(manager: EtcdLeaderManager, term: Term) -> None:
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                assert await manager.extend(term) is term
            except EtcdUnavailableError:
                await anyio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("dns_is_down", [False, True])
async def test_a_leader_goes_to_the_next_member_of_the_domain(
    cluster: EtcdServer, dns: DnsServer, election_key: str, dns_is_down: bool
) -> None:
    """The records are looked up again. In an outage of DNS the earlier members are used."""
    dns.point_to(DOMAIN, *cluster.endpoints)
    manager = EtcdLeaderManager(ETCD, CONFIG, election_key)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        left = member_in_use(cluster)
        assert left == 0, "the first by priority"
        dns.silent, asked = dns_is_down, len(dns.queries)
        cluster.members[left].kill()
        await extended(manager, term)
        assert member_in_use(cluster) != left
        assert len(dns.queries) > asked
        assert manager.term is term


async def test_members_that_are_published_later_are_found(
    cluster: EtcdServer, dns: DnsServer, election_key: str
) -> None:
    """No restart is needed after all members were replaced, one by one."""
    dns.point_to(DOMAIN, cluster.endpoints[0])
    manager = EtcdLeaderManager(ETCD, CONFIG, election_key)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        dns.point_to(DOMAIN, cluster.endpoints[1], cluster.endpoints[2])
        cluster.members[0].kill()
        await extended(manager, term)
        assert member_in_use(cluster) in (1, 2)


async def test_a_command_finds_the_member_that_is_up(cluster: EtcdServer, dns: DnsServer) -> None:
    """It asks each member once."""
    dns.point_to(DOMAIN, *cluster.endpoints)
    cluster.members[0].kill()
    async with connected(ETCD, timeout=PATIENCE) as connection:
        assert (await connection.api.member_status(timeout=PATIENCE)).version


async def test_members_with_tls_are_reached_with_tls(
    dns: DnsServer, election_key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("srv"))
    member = authority.server("localhost")
    async with EtcdServer(cert=member.cert, key=member.key) as server:
        dns.point_to(DOMAIN, *server.endpoints, tls=True)
        manager = EtcdLeaderManager(EtcdConfig(f"srv:{DOMAIN}", ca_cert=authority.cert), CONFIG, election_key)

        async def work(term: Term) -> int:
            return term.token

        with anyio.fail_after(PATIENCE):
            assert await manager.run(work) is not None


async def test_doctor_checks_each_member_of_the_domain(etcd_server: EtcdServer, dns: DnsServer) -> None:
    found: list[Finding] = []
    dns.point_to(DOMAIN, *etcd_server.endpoints)
    await check_etcd(ETCD, CONFIG, None, found.append, timeout=PATIENCE, hold=0)
    findings = {one.check: one for one in found}
    endpoint = etcd_server.endpoints[0].replace("127.0.0.1", "localhost")
    assert (findings["dns"].level, findings["dns"].what) == ("ok", f"srv:{DOMAIN} has {endpoint}")
    assert findings[f"endpoint {endpoint}"].level in ("ok", "warning")


async def test_doctor_reports_a_domain_without_records(dns: DnsServer) -> None:
    found: list[Finding] = []
    await check_etcd(ETCD, CONFIG, None, found.append, timeout=PATIENCE, hold=0)
    assert [(one.check, one.level) for one in found] == [("dns", "problem"), ("the rest", "skipped")]
    assert "there are no SRV records _etcd-client-ssl._tcp.example.org" in found[0].what
