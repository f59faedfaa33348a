"""Members of the fake report the raft term of the last entry that they applied. It may be an old term, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from etcdleader._etcd.api import Compare, DeleteRange, EtcdApi, Header, Put, Range, RangeResult
from etcdleader._etcd.messages import WatchCreateRequest
from etcdleader._etcd.rpcs import WATCH
from etcdleader._etcd.stream import StreamCallbacks
from etcdleader.errors import EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from etcdleader.testing._endpoint import FakeEndpoint
from etcdleader.testing.fake_etcd import FakeMember
from tests.sim.fake_watch import revisions, watch_k

pytestmark = pytest.mark.anyio

LEASE = 7


def propose(api: EtcdApi) -> Awaitable[object]:
    """Send a transaction that changes nothing, and is an entry of raft's log."""
    return api.txn([Compare(b"k", "version", 0, "<")], [DeleteRange(b"k")], timeout=1)


READS: dict[str, Callable[[EtcdApi], Awaitable[object]]] = {
    "range": lambda api: api.range(Range(b"k"), timeout=1),
    "read-only transaction": lambda api: api.txn([], [Range(b"k"), Range(b"j")], timeout=1),
    "keep-alive": lambda api: api.lease_keep_alive([LEASE], timeout=1),
    "status": lambda api: api.member_status(timeout=1),
}
ENTRIES: dict[str, Callable[[EtcdApi], Awaitable[object]]] = {
    "put": lambda api: api.txn([], [Put(b"k")], timeout=1),
    "proposal": propose,
    "delete in the branch that does not run": lambda api: api.txn([], [], [DeleteRange(b"k")], timeout=1),
    "grant": lambda api: api.lease_grant(10, 8, timeout=1),
    "revoke": lambda api: api.lease_revoke(LEASE, timeout=1),
}


async def read_header(api: EtcdApi) -> Header:
    return (await api.range(Range(b"k"), timeout=1)).header


async def catch_up_by_snapshot(etcd: FakeEtcd, member: FakeMember) -> None:
    """Elect another leader while a member lags, which then receives a snapshot."""
    member.lag()
    etcd.put("k/missed")
    etcd.change_leader()
    await anyio.sleep(1)
    member.recover(by_snapshot=True)


@pytest.mark.parametrize("ill", [FakeMember.lag, FakeMember.freeze])
async def test_a_member_that_caught_up_by_entries_reports_the_term_in_force(ill: Callable[[FakeMember], None]) -> None:
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        ill(etcd.members[0])
        etcd.change_leader()
        etcd.members[0].recover()
        assert (await read_header(client)).raft_term == etcd.raft_term == 3


@pytest.mark.parametrize("ill", [FakeMember.lag, FakeMember.freeze])
async def test_a_member_that_caught_up_by_snapshot_reports_the_old_term(ill: Callable[[FakeMember], None]) -> None:
    """Keep-alives, linearizable reads and watches report it alike, for as long as nothing is written."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client(endpoints=etcd.members[:1])
        etcd.grant(LEASE, 60)
        await client.lease_keep_alive([LEASE], timeout=1)
        got = watch_k(client)
        await anyio.sleep(0.1)
        ill(etcd.members[0])
        etcd.put("k/missed")
        etcd.change_leader()
        await anyio.sleep(1)
        etcd.members[0].recover(by_snapshot=True)
        for _ in range(2):
            read = await read_header(client)
            kept = (await client.lease_keep_alive([LEASE], timeout=1))[LEASE]
            assert (read.raft_term, kept.header.raft_term, kept.ttl) == (2, 2, 60)
            assert (await client.member_status(timeout=1)).header.raft_term == 2
            assert read.revision == etcd.revision, "its data is new"
            await anyio.sleep(10)
        assert revisions(got) == [2]
        assert etcd.raft_term == 3


async def test_a_watch_reports_the_old_term_after_a_catch_up_by_snapshot_and_the_new_one_with_the_next_event() -> None:
    async with FakeEtcd(members=3) as etcd:
        member = etcd.members[0]
        terms: list[int] = []
        use = StreamCallbacks(
            check=lambda message: None,
            on_message=lambda message: terms.append(message.header.raft_term),
            on_end=lambda error: None,
            call_soon=lambda function, *arguments: function(*arguments),
        )
        endpoint = FakeEndpoint("watcher", etcd.client(), etcd._cluster, member)
        stream = await endpoint.open_stream(WATCH, (), use, 1)
        stream.send(WatchCreateRequest(b"k", b"l", 0, 1))
        await anyio.sleep(0.1)
        await catch_up_by_snapshot(etcd, member)
        await anyio.sleep(0.1)
        etcd.put("k/next")
        await anyio.sleep(0.1)
        assert terms == [2, 2, 3]


@pytest.mark.parametrize("read", READS)
async def test_reads_and_keep_alives_do_not_update_a_members_term(read: str) -> None:
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        etcd.grant(LEASE, 60)
        await client.member_status(timeout=1)  # Until the version is known, such transactions are proposed.
        await catch_up_by_snapshot(etcd, etcd.members[0])
        await READS[read](client)
        assert etcd.members[0].raft_term == 2


@pytest.mark.parametrize("entry", ENTRIES)
async def test_an_entry_of_any_proposer_updates_a_members_term(entry: str) -> None:
    async with FakeEtcd(members=3) as etcd:
        clients = {number: etcd.client(endpoints=[etcd.members[number]]) for number in (0, 1)}
        for number, client in clients.items():
            etcd.grant(LEASE, 60)
            await catch_up_by_snapshot(etcd, etcd.members[0])
            assert etcd.members[0].raft_term < etcd.raft_term
            await ENTRIES[entry](client)
            assert etcd.members[0].raft_term == etcd.raft_term, number
            assert (await read_header(clients[0])).raft_term == etcd.raft_term
            for lease_id in etcd.leases():
                etcd.revoke(lease_id)


async def test_the_expiry_of_a_lease_is_an_entry_too() -> None:
    async with FakeEtcd(members=3) as etcd:
        etcd.grant(LEASE, 2)
        await catch_up_by_snapshot(etcd, etcd.members[0])
        await anyio.sleep(5)
        assert etcd.members[0].raft_term == etcd.raft_term == 3


async def test_a_write_that_waited_for_a_member_is_not_answered_after_a_catch_up_by_snapshot() -> None:
    """The entry that would have triggered the response never arrived."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        etcd.members[0].lag()

        async def recover() -> None:
            await anyio.sleep(1)
            etcd.members[0].recover(by_snapshot=True)

        async with anyio.create_task_group() as group:
            group.start_soon(recover)
            with pytest.raises(EtcdUnavailableError, match="request timed out"):
                await client.txn([], [Put(b"k")], timeout=5)
        assert list(etcd.keys()) == [b"k"]


@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_a_member_that_finds_all_data_in_a_snapshot_reports_0_until_it_applies_an_entry(how: str) -> None:
    async with FakeEtcd(members=3) as etcd:
        member, client = etcd.members[0], etcd.client(endpoints=etcd.members[:1])
        etcd.grant(LEASE, 60)
        if how == "restarted":
            member.restart(by_snapshot=True)
        else:
            member.kill()
            member.recover(by_snapshot=True)
        assert (await read_header(client)).raft_term == 0
        kept = (await client.lease_keep_alive([LEASE], timeout=1))[LEASE]
        assert (kept.ttl, kept.header.raft_term) == (60, 0)
        await propose(client)
        assert (await read_header(client)).raft_term == 2


async def test_a_member_that_restarts_with_its_log_has_the_term() -> None:
    async with FakeEtcd(members=3) as etcd:
        etcd.change_leader(etcd.members[1])
        etcd.members[0].restart()
        assert (await read_header(etcd.client())).raft_term == 3


@pytest.mark.parametrize("early", [False, True])
async def test_a_write_may_be_answered_under_the_term_of_the_entry_before_it(early: bool) -> None:
    """So the header of a proposal's own response proves nothing. The header of a read sent after it does."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        await catch_up_by_snapshot(etcd, etcd.members[0])
        etcd.members[0].answers_early = early
        for expected in (2 if early else 3, 3):
            result = await client.txn([], [Put(b"k"), Range(b"k")], timeout=1)
            inside = result.results[1]
            assert isinstance(inside, RangeResult)
            assert {result.header.raft_term, inside.header.raft_term} == {expected}
            assert (await read_header(client)).raft_term == 3


# A proposal that changes nothing


async def test_a_proposal_that_changes_nothing_needs_a_leader(etcd: FakeEtcd) -> None:
    client = etcd.client()
    etcd.lose_leader()
    with pytest.raises(EtcdUnavailableError):
        await propose(client)
    etcd.change_leader()
    await propose(client)


async def test_a_proposal_through_a_deposed_or_a_lagging_member_is_not_answered() -> None:
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client(endpoints=etcd.members[:1])
        for ill in (FakeMember.depose, FakeMember.lag):
            ill(etcd.members[0])
            with pytest.raises(EtcdUnavailableError):
                await propose(client)
            etcd.members[0].recover()
            await propose(client)


async def test_a_proposal_that_changes_nothing_is_allowed_without_space_and_a_put_in_either_branch_is_not(
    etcd: FakeEtcd,
) -> None:
    client = etcd.client()
    etcd.put("k")
    etcd.no_space = True
    await propose(client)
    assert etcd.revision == 2
    with pytest.raises(EtcdUnavailableError, match="space"):
        await client.txn([], [], [Put(b"k")], timeout=1)


# Terms that go back


async def test_all_members_report_the_lower_term_of_a_restored_etcd() -> None:
    async with FakeEtcd(members=3) as etcd:
        for _ in range(3):
            etcd.change_leader()
        backup = etcd.snapshot()
        await catch_up_by_snapshot(etcd, etcd.members[0])
        etcd.restore(backup)
        assert [member.raft_term for member in etcd.members] == [2, 2, 2]
        etcd.change_leader()
        etcd.wipe(raft_term=1)
        assert [member.raft_term for member in etcd.members] == [1, 1, 1]
