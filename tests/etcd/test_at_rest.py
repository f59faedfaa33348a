"""What a connection does while nothing happens: nothing."""

from __future__ import annotations

import threading

import anyio
import pytest

from etcdleader._etcd.gateway import EtcdGateway
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio


async def test_the_threads_of_streams_sleep_until_they_are_woken(
    etcd_server: EtcdServer, election_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's own way is to look ten times a second."""
    waits: dict[str, list[float | None]] = {}
    real = threading.Condition.wait

    def wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        waits.setdefault(threading.current_thread().name, []).append(timeout)
        return real(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", wait)
    gateway = EtcdGateway(etcd_server.config)
    before = set(threading.enumerate())
    created = anyio.Event()
    gateway.watch(election_key.encode(), sink=lambda message: created.set(), timeout=30)
    await gateway.lease_grant(60, 4712, timeout=30)
    with anyio.fail_after(30):
        await created.wait()
        for _ in range(3):
            assert (await gateway.lease_keep_alive([4712], timeout=30))[4712].ttl > 0
        readers = [one.name for one in set(threading.enumerate()) - before if one.name.startswith("etcdleader")]
        assert len(readers) == 2
        while not waits.keys() >= set(readers):
            await anyio.sleep(0.01)
    await gateway.lease_revoke(4712, timeout=30)
    await gateway.aclose()  # nor does one that sleeps miss the end
    assert {timeout for reader in readers for timeout in waits[reader]} == {None}
