"""A stream that ends before it is open: the connection broke while its first bytes were written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from etcdleader import EtcdConfig, EtcdUnavailableError
from etcdleader._etcd import client as product
from etcdleader._etcd.api import Header, KeepAlive, WatchBroken, WatchCreated, WatchMessage
from etcdleader._etcd.client import new_client
from etcdleader._etcd.messages import LeaseKeepAliveRequest, WatchCreateRequest, WatchResponse
from etcdleader._etcd.stream import RpcStream, StreamCallbacks
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend

pytestmark = pytest.mark.anyio

HEADER = Header(cluster_id=1, member_id=2, revision=3, raft_term=2)
BROKEN = EtcdUnavailableError("UNAVAILABLE: the connection was reset")


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


class AnsweringStream(RpcStream):
    """Responds soon to each message."""

    def __init__(self, use: StreamCallbacks) -> None:
        super().__init__((), use)
        self.closed = anyio.Event()

    def send(self, *requests: Any) -> None:
        for request in requests:
            if isinstance(request, LeaseKeepAliveRequest):
                self._use.call_soon(self._bring, KeepAlive(request.lease_id, 10, HEADER))
            elif isinstance(request, WatchCreateRequest):
                self._use.call_soon(self._bring, WatchResponse(HEADER, request.watch_id, created=True))

    def _bring(self, message: Any) -> None:
        if self._open:
            self._take(message)

    def _hang_up(self) -> None:
        self.closed.set()


class Member:
    """An endpoint whose first stream ends before it is open."""

    name = "member"
    last_received_at = -math.inf

    def __init__(self) -> None:
        self.opened = 0

    async def open_stream(self, rpc: object, metadata: object, use: StreamCallbacks, timeout: float) -> RpcStream:
        stream = AnsweringStream(use)
        self.opened += 1
        if self.opened == 1:
            stream.end(BROKEN)
        return stream

    def drain(self) -> None:
        """Do nothing: no task runs."""

    close = drain

    async def wait_closed(self) -> None:
        """Return at once: no task runs."""


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    member = Member()
    opened: Callable[..., Member] = lambda *_: member  # noqa: E731
    monkeypatch.setattr(product, "open_endpoint", opened)
    return member


async def test_keep_alives_fail_once_and_the_next_ones_use_a_new_stream(member: Member) -> None:
    """Otherwise each one would wait until its timeout, on each endpoint, forever."""
    client = new_client(EtcdConfig(["one:1", "other:1"]))
    with pytest.raises(EtcdUnavailableError, match="reset"):
        await client.lease_keep_alive([1, 2], timeout=5)
    assert anyio.current_time() < 1
    for _ in range(3):
        assert list(await client.lease_keep_alive([1, 2], timeout=5)) == [1, 2]
    assert member.opened == 2
    await client.aclose()


async def test_a_watch_is_requested_again_on_the_next_stream(member: Member) -> None:
    client = new_client(EtcdConfig(["one:1", "other:1"]))
    got: list[WatchMessage] = []
    client.watch(b"k", sink=got.append, timeout=5)
    await anyio.sleep(2)
    assert got == [WatchBroken(BROKEN), WatchCreated(3)]
    await client.aclose()
