"""A call that is switched to another member while it is being made is made for that member."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from etcdleader import EtcdConfig, EtcdLeaderError
from etcdleader._etcd import client as product
from etcdleader._etcd import endpoint_selector
from etcdleader._etcd.api import EMPTY_TXN, Header, MemberStatus, Range, TxnResult
from etcdleader._etcd.client import new_client
from etcdleader._etcd.rpcs import STATUS, Rpc

pytestmark = pytest.mark.anyio

HEADER = Header(cluster_id=1, member_id=2, revision=3, raft_term=2)


class Member:
    """An endpoint that responds at once, and records its requests."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self.asked: list[Any] = []
        self.last_received_at = -math.inf
        self.left = False

    async def call(self, rpc: Rpc[Any, Any], request: Any, metadata: object, timeout: float) -> Any:
        if rpc is STATUS:
            return MemberStatus(self.version, 2, HEADER)
        self.asked.append(request)
        return TxnResult(succeeded=True, results=(), header=HEADER)

    def drain(self) -> None:
        self.left = True

    close = drain

    async def wait_closed(self) -> None:
        """Return at once: it runs no task."""


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_read_that_switches_to_a_member_of_unknown_version_goes_through_its_raft_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client switched to it during the login. A read that is safe on the first member may crash the second."""
    sound, old = Member("sound", "3.5.21"), Member("old", "3.5.1")
    monkeypatch.setattr(product, "open_endpoint", lambda address, *_: {"sound:1": sound, "old:1": old}[address])
    client = new_client(EtcdConfig(["sound:1", "old:1"]))
    reads = [Range(b"a"), Range(b"b")]
    await client.member_status(timeout=5)
    await client.txn((), reads, timeout=5)
    assert EMPTY_TXN not in sound.asked[0].failure, "it is known to survive"
    login = client._authenticator.metadata

    async def switched_meanwhile(endpoint: Any, timeout: float) -> Any:
        client.report_endpoint_failure(0)
        return await login(endpoint, timeout)

    monkeypatch.setattr(client._authenticator, "metadata", switched_meanwhile)
    await client.txn((), reads, timeout=5)
    assert len(sound.asked) == 1
    assert EMPTY_TXN in old.asked[0].failure
    await client.aclose()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Member]:
    """Return the members to which the client connects, in order."""
    members: list[Member] = []

    def open_endpoint(address: str, *_: object) -> Member:
        members.append(Member(address, "3.5.21"))
        return members[-1]

    monkeypatch.setattr(product, "open_endpoint", open_endpoint)
    monkeypatch.setattr(endpoint_selector, "_SWITCH_COOLDOWN_SECONDS", 0.0)
    return members


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("endpoints", "heard", "goes"),
    [
        pytest.param(["one:1"], 0.0, False, id="the only one, which talks"),
        pytest.param(["one:1"], 1.0, True, id="the only one, silent"),
        pytest.param(["one:1"], None, True, id="the only one, never received from"),
        pytest.param(["one:1", "other:1"], 0.0, True, id="one of two"),
    ],
)
async def test_the_only_endpoint_is_not_left_while_it_sends_data(
    opened: list[Member], endpoints: list[str], heard: float | None, goes: bool
) -> None:
    """It may be slow because of a thousand concurrent requests.

    A new connection would have to create all their watches again.
    """
    client = new_client(EtcdConfig(endpoints))
    await client.member_status(timeout=5)
    if heard is not None:
        # Ahead of now, so that a machine that stops here for a while changes nothing.
        opened[0].last_received_at = time.monotonic() + (60 if heard == 0 else -heard)
    client.report_endpoint_failure(client.endpoint_number)
    assert opened[0].left is goes
    await client.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_only_endpoint_is_left_if_it_belongs_to_another_cluster(opened: list[Member]) -> None:
    """Its name may lead back to the right cluster. That it sends data is no reason to stay."""
    client = new_client(EtcdConfig(["one:1"]))
    await client.member_status(timeout=5)
    client._cluster_id = 2  # that of the right cluster; this member reports 1
    opened[0].last_received_at = time.monotonic() + 60
    with pytest.raises(EtcdLeaderError, match="belongs to cluster 1"):
        await client.member_status(timeout=5)
    client.report_endpoint_failure(client.endpoint_number)
    assert opened[0].left
    await client.aclose()
