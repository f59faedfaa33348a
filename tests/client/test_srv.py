"""Members that are found by SRV records, asked of a DNS server on loopback, on asyncio and trio."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import anyio
import pytest

from etcdleader import ConfigError, EtcdConfig, EtcdRefusedError, EtcdUnavailableError
from etcdleader._etcd import srv
from etcdleader._etcd.client import new_client
from etcdleader._etcd.srv import SrvMembers
from tests.helpers.dns_server import DnsServer, dns_server

pytestmark = pytest.mark.anyio

DOMAIN = "example.org"
CONFIG = EtcdConfig(f"srv:{DOMAIN}")
THREE = [(0, 0, port, "m.") for port in (1, 2, 3)]


PATIENCE = 60


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    """A DNS server for which the client waits as long as a slow machine needs, unless a test says otherwise."""
    for timeout in ("_FIRST_LOOKUP_SECONDS", "_NEXT_LOOKUP_SECONDS"):
        monkeypatch.setattr(srv, timeout, PATIENCE)
    with dns_server() as server:
        yield server


async def test_each_member_is_returned_in_turn_and_the_records_are_asked_for_each_time(server: DnsServer) -> None:
    server.publish(DOMAIN, *THREE)
    members = SrvMembers(DOMAIN, CONFIG, random.uniform)
    assert {await members.next() for _ in range(3)} == {"m:1", "m:2", "m:3"}
    assert server.queries == 3 * ["_etcd-client-ssl._tcp.example.org.", "_etcd-client._tcp.example.org."]
    assert members.count == 3
    server.publish(DOMAIN, (0, 0, 4, "m."))
    assert await members.next() == "m:4"
    assert members.count == 1


async def test_a_member_that_was_not_tried_comes_before_those_that_were(server: DnsServer) -> None:
    server.publish(DOMAIN, *THREE[:2])
    members = SrvMembers(DOMAIN, CONFIG, random.uniform)
    tried = [await members.next(), await members.next()]
    server.publish(DOMAIN, *THREE)
    assert await members.next() == "m:3"
    assert [await members.next(), await members.next()] == tried


async def test_members_with_tls_are_preferred(server: DnsServer) -> None:
    server.publish(DOMAIN, (0, 0, 1, "m.example.org."))
    server.publish(DOMAIN, (0, 0, 2, "m.example.org."), tls=True)
    assert await SrvMembers(DOMAIN, CONFIG, random.uniform).all() == ("https://m.example.org:2",)
    assert server.queries == ["_etcd-client-ssl._tcp.example.org."]


async def test_without_records_the_error_has_their_names(server: DnsServer) -> None:
    with pytest.raises(EtcdUnavailableError) as caught:
        await SrvMembers(DOMAIN, CONFIG, random.uniform).next()
    assert str(caught.value) == (
        "srv:example.org: there are no SRV records _etcd-client-ssl._tcp.example.org or _etcd-client._tcp.example.org"
    )
    server.publish(DOMAIN, *THREE)
    with pytest.raises(EtcdUnavailableError, match="which TLS needs"):
        await SrvMembers(DOMAIN, EtcdConfig(f"srv:{DOMAIN}", ca_cert="ca.pem"), random.uniform).next()
    assert server.queries[-1] == "_etcd-client-ssl._tcp.example.org."


async def test_a_failing_lookup_of_members_with_tls_leads_to_no_members_without(server: DnsServer) -> None:
    """A peer that can suppress one response could take the encryption away."""
    server.publish(DOMAIN, *THREE)
    server.failing = True
    with pytest.raises(EtcdUnavailableError, match=r"_etcd-client-ssl\._tcp\.example\.org\. cannot be looked up"):
        await SrvMembers(DOMAIN, CONFIG, random.uniform).next()


@pytest.mark.parametrize("fault", ["silent", "failing", "empty"])
async def test_in_an_outage_of_dns_the_last_members_are_used(
    server: DnsServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srv, "_NEXT_LOOKUP_SECONDS", 0.1)
    server.publish(DOMAIN, *THREE)
    members = SrvMembers(DOMAIN, CONFIG, random.uniform)
    first = await members.next()
    if fault == "empty":
        server.records.clear()
    else:
        setattr(server, fault, True)
    others = {await members.next(), await members.next()}
    assert others == {"m:1", "m:2", "m:3"} - {first}


async def test_a_silent_server_does_not_block_the_caller(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srv, "_FIRST_LOOKUP_SECONDS", 0.3)
    server.silent = True
    with pytest.raises(EtcdUnavailableError, match=r"no response from DNS within 0\.3 s|cannot be looked up"):
        await SrvMembers(DOMAIN, CONFIG, random.uniform).next()


async def test_a_lookup_does_not_block_the_loop_and_is_left_to_its_thread_when_it_is_cancelled(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srv, "_FIRST_LOOKUP_SECONDS", 10)  # the thread lasts as long
    server.silent = True
    async with anyio.create_task_group() as group:
        group.start_soon(SrvMembers(DOMAIN, CONFIG, random.uniform).next)
        with anyio.fail_after(PATIENCE):
            while not server.queries:
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert any(thread.name == "etcdleader SRV records" for thread in threading.enumerate())


async def test_no_password_is_sent_without_tls(server: DnsServer) -> None:
    """The configuration alone does not show it: the records decide."""
    server.publish(DOMAIN, *THREE)
    client = new_client(EtcdConfig(f"srv:{DOMAIN}", "user", "hunter2"))
    with pytest.raises(EtcdRefusedError, match="no password is sent there") as caught:
        await client.member_status(timeout=10)
    assert "hunter2" not in str(caught.value)
    await client.aclose()


def test_without_dnspython_the_configuration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    with pytest.raises(ConfigError) as caught:
        EtcdConfig(["a:1", f"srv:{DOMAIN}"])
    reported = "endpoints = 'srv:example.org': needs the package dnspython: pip install 'etcdleader[srv]'"
    assert caught.value.problems == (reported,)
