"""However a member is named: by a name, by IPv4, by IPv6, with a scheme or without."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="addresses", lease=10, renew=0.5, retry=2)
PATIENCE = 60


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@asynccontextmanager
async def reached_at(address: str, server: EtcdServer) -> AsyncIterator[int]:
    """A way to etcd that begins at a port of that address, whatever etcd itself listens on."""
    host, _, port = server.endpoints[0].rpartition(":")

    async def handle(near: SocketStream) -> None:
        async with near, await anyio.connect_tcp(host, int(port)) as far, anyio.create_task_group() as group:
            group.start_soon(pass_on, near, far)
            await pass_on(far, near)
            group.cancel_scope.cancel()

    async def pass_on(here: SocketStream, there: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                await there.send(await here.receive())

    listener = await anyio.create_tcp_listener(local_host=address)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("listens", "endpoint"),
    [
        ("127.0.0.1", "127.0.0.1:{}"),
        ("127.0.0.1", "localhost:{}"),
        ("127.0.0.1", "http://localhost:{}"),
        ("::1", "[::1]:{}"),
        ("::1", "http://[0:0:0:0:0:0:0:1]:{}"),
    ],
)
async def test_a_leader_is_elected_and_renews_by_it(
    etcd_server: EtcdServer, election_key: str, listens: str, endpoint: str
) -> None:
    if listens == "::1" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    async with reached_at(listens, etcd_server) as port:
        manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint.format(port)]), CONFIG, election_key)
        async with manager:
            with anyio.fail_after(PATIENCE):
                term = await manager.wait_elected()
                assert await manager.extend(term) is term
            leader = await manager.leader()
            assert leader is not None
            assert leader.token == term.token
