"""A connection does nothing while nothing happens."""

from __future__ import annotations

import threading
from contextlib import closing

import anyio
import pytest

from etcdleader._etcd.client import EtcdClient, new_client
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio


async def open_both_streams(api: EtcdClient, key: str) -> None:
    created = anyio.Event()
    api.watch(key.encode(), sink=lambda message: created.set(), timeout=30)
    await created.wait()
    lease_id = (await api.lease_grant(60, 0, timeout=30)).lease_id
    for _ in range(3):
        assert (await api.lease_keep_alive([lease_id], timeout=30))[lease_id].ttl > 0
    await api.lease_revoke(lease_id, timeout=30)


def threads_of_ours() -> list[str]:
    """Except two that are one per process: it starts servers for tests, or waits for the end of the process."""
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("etcdleader")]
    return [name for name in names if name not in ("etcdleader spawner", "etcdleader end")]


async def test_streams_have_no_threads(etcd_server: EtcdServer, election_key: str) -> None:
    api = new_client(etcd_server.config)
    with anyio.fail_after(30):
        before = threads_of_ours()
        await open_both_streams(api, election_key)
        assert threads_of_ours() == before
    await api.aclose()


async def test_the_threads_of_streams_on_a_users_own_client_end_with_them(
    etcd_server: EtcdServer, election_key: str
) -> None:
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    with closing(etcd3.client(host, int(port))) as client, anyio.fail_after(30):
        api = new_client(client)
        await open_both_streams(api, election_key)
        assert sorted(threads_of_ours()) == ["etcdleader keep-alives", "etcdleader watches"]
        await api.aclose()
        while threads_of_ours():
            await anyio.sleep(0.01)
