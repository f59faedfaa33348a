"""The fake itself, its leases, and its restores of older states. `tests/contract` compares it with real etcds."""

from __future__ import annotations

import anyio
import pytest

from etcdleader._etcd.api import (
    EtcdApi,
    LeaseExistsError,
    LeaseNotFoundError,
    Put,
    Range,
    WatchCanceled,
    WatchCreated,
    WatchEvents,
    WatchMessage,
)
from etcdleader.errors import EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from tests.sim.fake_watch import watch_k

pytestmark = pytest.mark.anyio


async def test_a_client_of_the_fake_implements_the_port(etcd: FakeEtcd) -> None:
    """This is how managers recognise it."""
    assert isinstance(etcd.client(), EtcdApi)


async def test_the_fake_implements_the_port(etcd: FakeEtcd) -> None:
    """It serves tests that need no network faults."""
    api: EtcdApi = etcd
    assert isinstance(api, EtcdApi)
    await api.txn([], [Put(b"k")], timeout=1)
    assert list(etcd.keys()) == [b"k"]


async def test_an_exception_in_the_body_is_raised_unchanged() -> None:
    """If a failed assertion were raised in a group, the failure would be hidden."""
    with pytest.raises(ZeroDivisionError):
        async with FakeEtcd():
            _ = 1 / 0


async def test_a_fake_that_is_not_open_is_unavailable() -> None:
    """A manager that outlives it receives errors instead of hanging."""
    async with FakeEtcd() as etcd:
        client = etcd.client()
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=1)


async def test_calls_are_counted_when_they_are_sent(etcd: FakeEtcd) -> None:
    """The cost of the protocol is stated in requests. A keep-alive is one request for each lease."""
    client = etcd.client()
    etcd.grant(1, 10)
    etcd.grant(2, 10)
    await client.lease_keep_alive([1, 2], timeout=1)
    client.lose_request("range")
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=1)
    assert etcd.calls == client.calls == {"lease_keep_alive": 2, "range": 1}


async def test_history_has_the_time_of_each_revisions_commit(etcd: FakeEtcd) -> None:
    """A test compares a manager's leadership with this history."""
    await anyio.sleep(3)
    etcd.put("k", "v")
    (commit,) = etcd.history
    assert (commit.revision, commit.events[0].kv.key) == (2, b"k")
    assert commit.time == anyio.current_time()


async def test_a_commit_hook_runs_before_any_watch_receives_the_commit(etcd: FakeEtcd) -> None:
    received: list[object] = []
    etcd.client().watch(b"k", sink=lambda message: received.append(type(message)), timeout=5)
    await anyio.sleep(1)
    etcd.commit_hooks.append(received.append)
    etcd.put(b"k", b"v")
    await anyio.sleep(1)
    etcd.delete(b"k")
    await anyio.sleep(1)
    put, delete = etcd.history[-2:]
    assert received == [WatchCreated, put, WatchEvents, delete, WatchEvents]


async def test_hooks_run_between_arrival_and_response(etcd: FakeEtcd) -> None:
    """Schedules depend on hooks: an action must happen just before or just after a request is applied."""
    client = etcd.client("alice")
    seen: list[tuple[str, str, str, int]] = []

    async def hook(call: Call) -> None:
        await anyio.sleep(1)
        seen.append((call.client, call.kind, call.stage, etcd.revision))

    etcd.hooks.append(hook)
    await client.txn([], [Put(b"k")], timeout=5)
    assert seen == [("alice", "txn", "before", 1), ("alice", "txn", "after", 2)]


async def test_an_exception_of_a_hook_is_raised_by_its_call(etcd: FakeEtcd) -> None:
    """An assertion in a hook must fail the test, and not hang it."""

    def hook(call: Call) -> None:
        assert call.kind == "txn"

    etcd.hooks.append(hook)
    client = etcd.client()
    with pytest.raises(AssertionError):
        await client.range(Range(b"k"), timeout=1)
    await client.txn([], [], timeout=1)


async def test_an_exception_of_a_hook_for_a_stream_is_raised_when_the_fake_closes() -> None:
    """A stream carries many calls, and the client only handles errors from etcd."""

    def hook(call: Call) -> None:
        raise AssertionError(call.kind)

    with pytest.raises(AssertionError, match="lease_keep_alive"):
        async with FakeEtcd() as etcd:
            etcd.grant(7, 10)
            etcd.hooks.append(hook)
            with pytest.raises(EtcdUnavailableError):
                await etcd.client().lease_keep_alive([7], timeout=1)


async def test_an_exception_of_a_sink_is_raised_when_the_fake_closes() -> None:
    """No caller waits for a watch, and the error must not be lost."""

    def sink(message: WatchMessage) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with FakeEtcd() as etcd:
            etcd.client().watch(b"k", sink=sink, timeout=5)
            await anyio.sleep(1)


async def test_a_lease_expires_within_half_a_second_with_its_keys(etcd: FakeEtcd) -> None:
    """etcd checks every 500 ms. Leadership is free no earlier than the end of its lease."""
    await anyio.sleep(0.2)
    started = anyio.current_time()
    etcd.grant(7, 10)
    etcd.put("k/1", lease=7)
    etcd.put("k/2", lease=7)
    await anyio.sleep(11)
    commit = etcd.history[-1]
    assert [event.type for event in commit.events] == ["delete", "delete"]
    assert 10 <= commit.time - started <= 10.5
    assert etcd.leases() == {}


async def test_a_key_that_was_put_on_another_lease_ends_with_that_lease_alone(etcd: FakeEtcd) -> None:
    """This holds whether the leases are revoked or expire. It is how a key outlives its first lease."""
    for number, end in enumerate(("revoked", "expired")):
        old, new, key = 10 + number, 20 + number, f"k/{number}".encode()
        etcd.grant(old, 10)
        etcd.put(key, "v", lease=old)
        etcd.grant(new, 20)
        etcd.put(key, "v", lease=new)
        if end == "revoked":
            etcd.revoke(old)
        else:
            await anyio.sleep(11)
        assert old not in etcd.leases()
        assert (etcd.keys()[key].lease, etcd.keys()[key].version) == (new, 2)
        if end == "revoked":
            etcd.revoke(new)
        else:
            await anyio.sleep(10)
        assert key not in etcd.keys()


async def test_a_new_etcd_leader_gives_each_lease_its_full_time(etcd: FakeEtcd) -> None:
    """An election timeout is added.

    Renewals are not replicated, so the leader must assume one just before its election.
    """
    etcd.grant(7, 10)
    await anyio.sleep(9)
    etcd.change_leader()
    assert etcd.leases()[7] == pytest.approx(11)
    assert etcd.raft_term == 3


async def test_an_expired_lease_is_not_saved_by_a_keep_alive(etcd: FakeEtcd) -> None:
    """The response arrives after the revocation, and reports it."""
    client = etcd.client()
    etcd.grant(7, 2)
    await anyio.sleep(0.2)
    etcd.change_leader()  # it expires 3 s after this, off the rhythm of the expiry loop
    await anyio.sleep(3.1)
    assert etcd.leases()[7] < 0
    answers = await client.lease_keep_alive([7], timeout=5)
    assert answers[7].ttl == 0
    assert etcd.leases() == {}


async def test_no_lease_expires_while_etcd_has_no_leader(etcd: FakeEtcd) -> None:
    """A revocation needs consensus."""
    etcd.grant(7, 2)
    etcd.lose_leader()
    await anyio.sleep(60)
    assert 7 in etcd.leases()
    etcd.change_leader()
    await anyio.sleep(3.5)
    assert etcd.leases() == {}


async def test_a_restored_backup_resets_revision_and_term(etcd: FakeEtcd) -> None:
    """It also restores leases that had ended. The watch reports none of this."""
    client = etcd.client()
    etcd.grant(7, 10)
    etcd.put("k/1", lease=7)
    etcd.change_leader()
    backup = etcd.snapshot()
    etcd.revoke(7)
    etcd.put("k/2")
    etcd.restore(backup)
    header = (await client.range(Range(b"k"), timeout=1)).header
    assert (header.revision, header.raft_term, list(etcd.keys())) == (2, 2, [b"k/1"])
    assert etcd.leases()[7] == pytest.approx(11)


async def test_a_wiped_etcd_differs_only_in_its_revision(etcd: FakeEtcd) -> None:
    """Cluster id, member id and raft term stay the same (measured)."""
    client = etcd.client()
    before = (await client.txn([], [Put(b"k")], timeout=1)).header
    etcd.wipe()
    after = (await client.range(Range(b"k"), timeout=1)).header
    assert (after.cluster_id, after.member_id, after.raft_term) == (
        before.cluster_id,
        before.member_id,
        before.raft_term,
    )
    assert (before.revision, after.revision) == (2, 1)


async def test_a_watch_at_a_compacted_revision_is_cancelled(etcd: FakeEtcd) -> None:
    """It cannot continue without a gap."""
    client = etcd.client()
    got = watch_k(client)
    await anyio.sleep(0.1)
    client.partition()
    client.break_streams()
    for number in range(5):
        etcd.put(f"k/{number}")
    etcd.compact()
    client.heal()
    await anyio.sleep(1)
    message = got[-1]
    assert isinstance(message, WatchCanceled)
    assert message.compact_revision == 6
    etcd.put("k/more")
    await anyio.sleep(1)
    assert got[-1] is message


async def test_an_existing_lease_id_and_a_missing_lease_are_distinguished(etcd: FakeEtcd) -> None:
    """Candidates use these two errors to resolve lost responses."""
    client = etcd.client()
    etcd.grant(7, 10)
    with pytest.raises(LeaseExistsError):
        await client.lease_grant(10, 7, timeout=1)
    with pytest.raises(LeaseNotFoundError):
        await client.lease_revoke(8, timeout=1)
