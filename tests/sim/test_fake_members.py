"""The members of the fake fail exactly as ordered."""

from __future__ import annotations

import anyio
import pytest

from etcdleader._etcd.api import (
    Put,
    Range,
    WatchBroken,
    WatchCreated,
)
from etcdleader.errors import EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from tests.sim.fake_watch import revisions, watch_k

pytestmark = pytest.mark.anyio


async def test_a_deposed_leader_acknowledges_a_lease_that_has_ended() -> None:
    """This was measured on real etcd. It is why a keep-alive alone proves nothing."""
    async with FakeEtcd(members=2) as etcd:
        old = etcd.client("old", endpoints=etcd.members[:1])
        new = etcd.client("new", endpoints=etcd.members[1:])
        etcd.grant(7, 10)
        etcd.put("k", lease=7)
        etcd.members[0].depose()
        etcd.revoke(7)
        answer = (await old.lease_keep_alive([7], timeout=1))[7]
        assert (answer.ttl, answer.header.raft_term, answer.header.revision) == (10, 2, 2)
        with pytest.raises(EtcdUnavailableError):
            await old.range(Range(b"k"), timeout=5)
        found = await new.range(Range(b"k"), timeout=5)
        assert (found.kvs, found.header.raft_term, found.header.revision) == ((), 3, 3)
        etcd.members[0].recover()
        assert (await old.lease_keep_alive([7], timeout=1))[7].ttl == 0


async def test_an_acknowledgement_by_a_deposed_leader_can_outlive_the_lease() -> None:
    """The gap was measured on a leader that was deposed by a transfer.

    It acknowledged a keep-alive 1.9 s later. etcd let the lease end 0.9 s before the time that the acknowledgement
    promised.
    """
    async with FakeEtcd(members=2, election_timeout=1.0) as etcd:
        old = etcd.client("old", endpoints=etcd.members[:1])
        etcd.grant(7, 10)
        etcd.members[0].depose()
        await anyio.sleep(1.9)
        sent_at = anyio.current_time()
        ttl = (await old.lease_keep_alive([7], timeout=1))[7].ttl
        assert etcd.leases()[7] + anyio.current_time() - (sent_at + ttl) == pytest.approx(-0.9)


async def test_writes_to_a_deposed_leader_fail() -> None:
    """This holds even after it has detected its successor."""
    async with FakeEtcd(members=2) as etcd:
        old = etcd.client("old", endpoints=etcd.members[:1])
        etcd.members[0].depose()
        with pytest.raises(EtcdUnavailableError):
            await old.txn([], [Put(b"k")], timeout=5)
        etcd.members[0].recover()
        await anyio.sleep(1)
        assert not etcd.keys()


async def test_a_lagging_member_is_silent_until_it_has_caught_up() -> None:
    """Its watch events are late, its reads wait, and its writes are committed before they are answered."""
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client(endpoints=etcd.members[1:])
        got = watch_k(client)
        etcd.grant(7, 10)
        await anyio.sleep(0.1)
        etcd.members[1].lag()
        with pytest.raises(EtcdUnavailableError):
            await client.txn([], [Put(b"k/1")], timeout=2)
        assert list(etcd.keys()) == [b"k/1"]
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=2)
        assert (await client.lease_keep_alive([7], timeout=1))[7].ttl == 10
        late = watch_k(client)
        await anyio.sleep(1)
        assert (got, late) == ([WatchCreated(1)], [WatchCreated(1)])
        etcd.members[1].recover()
        await anyio.sleep(0.1)
        assert revisions(got) == revisions(late) == [2]


async def test_a_frozen_member_sends_nothing(etcd: FakeEtcd) -> None:
    """As with SIGSTOP, connections stay open and nothing is received."""
    client = etcd.client()
    got = watch_k(client)
    etcd.grant(7, 60)
    await anyio.sleep(0.1)
    etcd.members[0].freeze()
    etcd.put("k/1")
    with pytest.raises(EtcdUnavailableError):
        await client.lease_keep_alive([7], timeout=5)
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=5)
    # The client has given up on the member, and there is no other one.
    assert got[0] == WatchCreated(1)
    assert all(isinstance(message, WatchBroken) for message in got[1:])
    etcd.members[0].recover()
    await anyio.sleep(1.1)
    assert revisions(got) == [2]


async def test_a_client_switches_from_a_dead_member_when_a_stream_breaks_or_a_caller_reports_it() -> None:
    """The first caller that detects it switches. The streams follow."""
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client()
        got = watch_k(client)
        await anyio.sleep(0.1)
        left = client.endpoint_number
        etcd.members[0].kill()
        await anyio.sleep(1)
        assert [type(message) for message in got[1:]] == [WatchBroken, WatchCreated]
        assert (await client.range(Range(b"k"), timeout=5)).header.member_id == etcd.members[1].member_id
        client.report_endpoint_failure(left)  # a late report of the same failure
        assert client.member is etcd.members[1]
        client.report_endpoint_failure(client.endpoint_number)
        started = anyio.current_time()
        with pytest.raises(EtcdUnavailableError, match="refused"):
            await client.range(Range(b"k"), timeout=5)
        assert anyio.current_time() == started


async def test_an_etcd_that_is_down_fails_at_once_and_recovers_with_its_data(etcd: FakeEtcd) -> None:
    """Leases get their full time when it recovers."""
    client = etcd.client()
    got = watch_k(client)
    etcd.grant(7, 10)
    etcd.put("k/1", lease=7)
    await anyio.sleep(0.1)
    etcd.stop()
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=5)
    await anyio.sleep(300)
    etcd.start()
    assert (await client.range(Range(b"k/1"), timeout=5)).count == 1
    assert etcd.leases()[7] == pytest.approx(11)
    await anyio.sleep(1)
    assert got[-1] == WatchCreated(2, resumed=True)


async def test_calls_wait_while_etcd_has_no_leader(etcd: FakeEtcd) -> None:
    """They wait until there is a leader, or until they time out."""
    client = etcd.client()
    etcd.lose_leader()

    async def elect() -> None:
        await anyio.sleep(3)
        etcd.change_leader()

    async with anyio.create_task_group() as group:
        group.start_soon(elect)
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=1)
        assert (await client.txn([], [Put(b"k")], timeout=5)).header.raft_term == 3
