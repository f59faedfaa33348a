"""Watch streams of a real etcd: the response to a progress request, and a stream that brings nothing any more."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError, LossReason
from etcdleader._etcd.api import DeleteRange, Put, WatchBroken, WatchCreated, WatchEvents, WatchMessage
from etcdleader._etcd.client import EtcdClient, new_client
from etcdleader._lease import shared_connection as connections
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.anyio

RETRY = 2.5
"""Seconds: more than etcd, the proxy or this process may stand still without a broken stream."""
PATIENCE = 60
BROKEN = EtcdUnavailableError("the stream was broken")


class Proxy:
    """The fault suite's TCP proxy before one member, which can lose what comes on watch streams and nothing else."""

    def __init__(self, server: EtcdServer, folder: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy", str(folder / "journal"), f"{self.port}:{server.endpoints[0]}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def drop_watches(self, *, drop: bool) -> None:
        assert self._process.stdin is not None
        print(f'{{"member": 0, "drop_watch": {str(drop).lower()}}}', file=self._process.stdin, flush=True)
        assert self._read() == "done"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def proxy(etcd_server: EtcdServer, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(etcd_server, tmp_path)
    yield proxy
    proxy.close()


async def until(holds: Callable[[], Any], timeout: float = PATIENCE) -> None:
    with anyio.fail_after(timeout):
        while not holds():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("way", ["our own", "a given client"])
async def test_a_resumed_watch_stays_on_its_stream_though_nothing_happens(
    etcd_server: EtcdServer, election_key: str, way: str
) -> None:
    """The responses to progress requests show that the streams work. No event does, because nothing is written."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    given = etcd3.client(host, int(port)) if way == "a given client" else None
    api: EtcdClient = new_client(etcd_server.config if given is None else given)
    got: list[WatchMessage] = []
    key = election_key.encode()
    await api.txn((), [Put(key, b"1")], timeout=PATIENCE)
    api.watch(key, sink=got.append, timeout=RETRY)
    await until(lambda: got)
    last = (await api.txn((), [Put(key, b"2")], timeout=PATIENCE)).header.revision
    await until(lambda: len(got) == 2)
    assert api._watches.stream is not None
    api._watches.break_(BROKEN)
    await until(lambda: len(got) == 4)
    assert got[2:] == [WatchBroken(BROKEN), WatchCreated(last, resumed=True)]
    stream = api._watches.stream
    await anyio.sleep(3 * RETRY)  # a progress request after the first `retry`, and its response within the second
    assert api._watches.stream is stream
    assert len(got) == 4
    await api.txn((), [Put(key, b"3")], timeout=PATIENCE)
    await until(lambda: len(got) == 5)
    assert isinstance(got[4], WatchEvents)
    await api.aclose()
    if given is not None:
        given.close()


async def test_a_silent_watch_stream_is_replaced_and_a_deleted_key_found(
    etcd_server: EtcdServer, proxy: Proxy, election_key: str
) -> None:
    """Long before the next renewal."""
    config = Config(enabled=True, id="silent", lease=120, renew=100, retry=RETRY, margin=10)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[f"127.0.0.1:{proxy.port}"]), config, election_key)
    operator = new_client(etcd_server.config)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        (connection,) = connections._pool.values()
        assert isinstance(connection.api, EtcdClient)
        streams = connection.api._watches
        await until(lambda: streams._by_id)
        silent = streams.stream
        proxy.drop_watches(drop=True)
        await operator.txn((), [DeleteRange(term.key.encode())], timeout=PATIENCE)
        # Until the response to the progress request is lost, too: a stream with a gap would count as valid.
        await until(lambda: streams.stream is not silent)
        assert term.is_valid(), "its watch brings nothing"
        proxy.drop_watches(drop=False)
        await until(lambda: not term.is_valid(), timeout=PATIENCE / 2)
        assert term.loss_reason is LossReason.DELETED
        with anyio.fail_after(PATIENCE):
            assert (await manager.wait_elected()).token > term.token
    await operator.aclose()
