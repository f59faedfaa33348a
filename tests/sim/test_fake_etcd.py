"""The fake itself: it keeps virtual time, and it goes wrong exactly as it is told. That it is an etcd otherwise is what
`tests/contract` shows."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
import pytest

from etcdleader._etcd.api import (
    Compare,
    EtcdApi,
    LeaseExistsError,
    LeaseNotFoundError,
    Put,
    Range,
    WatchBroken,
    WatchCanceled,
    WatchCreated,
    WatchEvents,
    WatchMessage,
)
from etcdleader.errors import EtcdRefusedError, EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call, FakeClient
from etcdleader.testing.virtual_time import VirtualClock

pytestmark = pytest.mark.anyio


def _watch(client: FakeClient, start_revision: int = 0, timeout: float = 5.0) -> list[WatchMessage]:
    """Watch everything under `k`; returns what comes, as it comes."""
    got: list[WatchMessage] = []
    client.watch(b"k", b"l", start_revision=start_revision, sink=got.append, timeout=timeout)
    return got


def _be_slow() -> str:
    time.sleep(0.05)
    return "done"


def _revisions(messages: Sequence[WatchMessage]) -> list[int]:
    return [
        event.kv.mod_revision for message in messages if isinstance(message, WatchEvents) for event in message.events
    ]


# Virtual time


async def test_ten_minutes_take_no_time() -> None:
    """Otherwise nobody would test what happens in ten minutes."""
    started, real = anyio.current_time(), time.monotonic()
    await anyio.sleep(600)
    assert anyio.current_time() - started == pytest.approx(600)
    assert time.monotonic() - real < 60


async def test_a_thread_is_waited_for_when_no_timer_is_set() -> None:
    """Virtual time must not make a loop spin, or end, because a thread is all there is to wait for."""
    before = anyio.current_time()
    assert await anyio.to_thread.run_sync(_be_slow) == "done"
    assert anyio.current_time() == before


async def test_a_clock_can_be_moved_apart_from_the_loop(clock: VirtualClock) -> None:
    """As a suspended machine's boot time is: its loop has slept through."""
    assert clock() == anyio.current_time()
    clock.advance(60)
    await anyio.sleep(1)
    assert clock() - anyio.current_time() == pytest.approx(60)


async def test_a_clock_can_run_at_a_rate_of_its_own(clock: VirtualClock) -> None:
    """Clocks of two machines drift; a change of rate is no step."""
    started = clock()
    clock.rate = 1.5
    assert clock() == started
    await anyio.sleep(10)
    assert clock() - started == pytest.approx(15)


async def test_a_clock_may_be_read_from_a_thread(clock: VirtualClock) -> None:
    """`is_leader()` may be, and reads it."""
    assert await anyio.to_thread.run_sync(clock) == clock()


# The fake as such


async def test_a_client_is_the_port(etcd: FakeEtcd) -> None:
    """Managers take it for what it is by that."""
    assert isinstance(etcd.client(), EtcdApi)


async def test_the_fake_is_a_client_itself(etcd: FakeEtcd) -> None:
    """For tests that need no faults in the network."""
    api: EtcdApi = etcd
    assert isinstance(api, EtcdApi)
    await api.txn([], [Put(b"k")], timeout=1)
    assert list(etcd.keys()) == [b"k"]


async def test_what_the_body_raises_comes_out_as_itself() -> None:
    """A failed assertion in a group would hide what failed."""
    with pytest.raises(ZeroDivisionError):
        async with FakeEtcd():
            _ = 1 / 0


async def test_a_fake_that_is_not_open_is_unavailable() -> None:
    """A manager that outlives it sees an etcd that is gone, not a hang."""
    async with FakeEtcd() as etcd:
        client = etcd.client()
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=1)


async def test_calls_are_counted_as_they_leave(etcd: FakeEtcd) -> None:
    """The cost of the protocol is stated in requests; a keep-alive is one for each lease."""
    client = etcd.client()
    etcd.grant(1, 10)
    etcd.grant(2, 10)
    await client.lease_keep_alive([1, 2], timeout=1)
    client.lose_request("range")
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=1)
    assert etcd.calls == client.calls == {"lease_keep_alive": 2, "range": 1}


async def test_history_tells_when_each_revision_was_committed(etcd: FakeEtcd) -> None:
    """It is the reference that a test holds a manager's belief against."""
    await anyio.sleep(3)
    etcd.put("k", "v")
    (commit,) = etcd.history
    assert (commit.revision, commit.events[0].kv.key) == (2, b"k")
    assert commit.time == anyio.current_time()


async def test_hooks_act_between_arrival_and_answer(etcd: FakeEtcd) -> None:
    """Schedules are written with them: this must happen just before, or just after, that."""
    client = etcd.client("alice")
    seen: list[tuple[str, str, str, int]] = []

    async def hook(call: Call) -> None:
        await anyio.sleep(1)
        seen.append((call.client, call.kind, call.stage, etcd.revision))

    etcd.hooks.append(hook)
    await client.txn([], [Put(b"k")], timeout=5)
    assert seen == [("alice", "txn", "before", 1), ("alice", "txn", "after", 2)]


# Leases


async def test_a_lease_expires_within_half_a_second_and_takes_its_keys(etcd: FakeEtcd) -> None:
    """etcd looks every 500 ms; a seat is free no earlier than its lease's end."""
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


async def test_a_new_etcd_leader_gives_each_lease_its_full_time(etcd: FakeEtcd) -> None:
    """And one election timeout more: renewals are not replicated, so it must assume one just before."""
    etcd.grant(7, 10)
    await anyio.sleep(9)
    etcd.change_leader()
    assert etcd.leases()[7] == pytest.approx(11)
    assert etcd.raft_term == 3


async def test_an_expired_lease_is_not_saved_by_a_keep_alive(etcd: FakeEtcd) -> None:
    """Its answer waits for the revocation, and then says so."""
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
    """A revocation must be agreed on."""
    etcd.grant(7, 2)
    etcd.lose_leader()
    await anyio.sleep(60)
    assert 7 in etcd.leases()
    etcd.change_leader()
    await anyio.sleep(3.5)
    assert etcd.leases() == {}


# Faults of the network


async def test_a_lost_request_does_nothing_and_a_lost_answer_has_done_it(etcd: FakeEtcd) -> None:
    """Whoever calls cannot tell the two apart."""
    client = etcd.client()
    started = anyio.current_time()
    client.lose_request("txn")
    with pytest.raises(EtcdUnavailableError):
        await client.txn([], [Put(b"k/request")], timeout=2)
    client.lose_answer("txn")
    with pytest.raises(EtcdUnavailableError):
        await client.txn([], [Put(b"k/answer")], timeout=3)
    assert anyio.current_time() - started == pytest.approx(5)
    assert list(etcd.keys()) == [b"k/answer"]


async def test_a_fault_hits_as_many_calls_of_its_kind_as_were_ordered(etcd: FakeEtcd) -> None:
    """Or a schedule would hit something else than it says."""
    client = etcd.client()
    client.fail("txn", EtcdUnavailableError("first"))
    client.refuse("txn", times=2)
    await client.range(Range(b"k"), timeout=1)
    with pytest.raises(EtcdUnavailableError, match="first"):
        await client.txn([], [], timeout=1)
    for _ in range(2):
        with pytest.raises(EtcdRefusedError):
            await client.txn([], [], timeout=1)
    await client.txn([], [], timeout=1)


async def test_an_error_may_come_after_the_deed(etcd: FakeEtcd) -> None:
    """etcd 3.5 answers "no space" to the very put that it applied."""
    client = etcd.client()
    client.fail("txn", EtcdUnavailableError("database space exceeded"), applied=True)
    with pytest.raises(EtcdUnavailableError, match="space"):
        await client.txn([], [Put(b"k")], timeout=1)
    assert list(etcd.keys()) == [b"k"]


async def test_what_was_sent_stays_sent(etcd: FakeEtcd) -> None:
    """A caller that gave up does not call its request back."""
    client = etcd.client()
    client.delay("txn", request=30)
    with anyio.move_on_after(1):
        await client.txn([], [Put(b"k")], timeout=5)
    await anyio.sleep(28)
    assert not etcd.keys()
    await anyio.sleep(2)
    assert list(etcd.keys()) == [b"k"]


async def test_latency_is_paid_each_way(etcd: FakeEtcd) -> None:
    """A request that takes effect late is another fault than a late answer."""
    client = etcd.client()
    client.latency = 0.5
    started = anyio.current_time()
    await client.txn([], [Put(b"k")], timeout=5)
    assert etcd.history[0].time - started == pytest.approx(0.5)
    assert anyio.current_time() - started == pytest.approx(1)


async def test_a_seed_gives_the_same_latencies_again() -> None:
    """A schedule that was found must be found again."""

    async def run(seed: int) -> list[float]:
        took = []
        async with FakeEtcd(seed=seed) as etcd:
            client = etcd.client()
            client.latency = (0.0, 1.0)
            for _ in range(3):
                started = anyio.current_time()
                await client.range(Range(b"k"), timeout=5)
                took.append(round(anyio.current_time() - started, 9))
        return took

    assert await run(1) == await run(1) != await run(2)


async def test_a_partition_holds_one_client_and_loses_what_was_given_up(etcd: FakeEtcd) -> None:
    """The others go on, and a request that its caller gave up does not come out of it late."""
    alice, bob = etcd.client("alice"), etcd.client("bob")
    alice.partition()
    with pytest.raises(EtcdUnavailableError):
        await alice.txn([], [Put(b"k/alice")], timeout=3)
    await bob.txn([], [Put(b"k/bob")], timeout=3)
    alice.heal()
    await anyio.sleep(10)
    assert list(etcd.keys()) == [b"k/bob"]
    await alice.txn([], [Put(b"k/alice")], timeout=3)


async def test_no_space_refuses_what_needs_room(etcd: FakeEtcd) -> None:
    """And nothing else: a leader stays, and can let go."""
    client = etcd.client()
    await client.lease_grant(10, 7, timeout=1)
    etcd.no_space = True
    with pytest.raises(EtcdUnavailableError):
        await client.lease_grant(10, 8, timeout=1)
    with pytest.raises(EtcdUnavailableError):
        await client.txn([Compare(b"k", "create", 1)], [Put(b"k")], timeout=1)
    assert (await client.range(Range(b"k"), timeout=1)).count == 0
    assert (await client.lease_keep_alive([7], timeout=1))[7].ttl == 10
    await client.lease_revoke(7, timeout=1)


# Streams


async def test_a_broken_stream_goes_on_from_the_next_revision(etcd: FakeEtcd) -> None:
    """Nothing that happened meanwhile is missed, nothing comes twice."""
    client = etcd.client()
    got = _watch(client)
    await anyio.sleep(0.1)
    etcd.put("k/1")
    await anyio.sleep(0.1)
    client.break_streams()
    etcd.put("k/2")
    etcd.put("k/3")
    await anyio.sleep(1)
    kinds = [type(message) for message in got]
    assert kinds == [WatchCreated, WatchEvents, WatchBroken, WatchCreated, WatchEvents]
    assert got[0] == WatchCreated(1)
    assert got[3] == WatchCreated(2, resumed=True)
    assert _revisions(got) == [2, 3, 4]


async def test_a_stalled_watch_is_silent_and_then_brings_it_all(etcd: FakeEtcd) -> None:
    """While everything else works: only a renewal's read can notice."""
    client = etcd.client()
    got = _watch(client)
    await anyio.sleep(0.1)
    client.stall_watches()
    etcd.put("k/1")
    await client.range(Range(b"k"), timeout=1)
    await anyio.sleep(600)
    assert got == [WatchCreated(1)]
    client.resume_watches()
    await anyio.sleep(0.1)
    assert _revisions(got) == [2]


async def test_a_watch_that_is_not_created_in_time_breaks_its_stream(etcd: FakeEtcd) -> None:
    """So that it is tried again, until it stands."""
    client = etcd.client()
    client.lose_answer("watch")
    got = _watch(client, timeout=2)
    await anyio.sleep(1.9)
    assert got == []
    await anyio.sleep(0.5)
    assert [type(message) for message in got] == [WatchBroken, WatchCreated]
    assert got[1] == WatchCreated(1)


async def test_a_refused_watch_is_cancelled(etcd: FakeEtcd) -> None:
    """etcd refuses the watch, not the stream."""
    client = etcd.client()
    client.refuse("watch")
    got = _watch(client)
    await anyio.sleep(0.1)
    (message,) = got
    assert isinstance(message, WatchCanceled)
    assert isinstance(message.error, EtcdRefusedError)


async def test_a_closed_watch_says_nothing_more(etcd: FakeEtcd) -> None:
    """Also when a message is on its way."""
    client = etcd.client()
    client.latency = 1.0
    got: list[WatchMessage] = []
    handle = client.watch(b"k", b"l", sink=got.append, timeout=5)
    await anyio.sleep(3)
    etcd.put("k/1")
    await anyio.sleep(0.5)
    handle.close()
    await anyio.sleep(5)
    assert got == [WatchCreated(1)]


async def test_a_sink_is_never_called_from_inside_watch(etcd: FakeEtcd) -> None:
    """The port says so, and its users have not stored the handle yet."""
    got = _watch(etcd.client())
    assert got == []
    await anyio.sleep(0.1)
    assert got


async def test_a_keep_alive_that_times_out_ends_the_stream_for_all(etcd: FakeEtcd) -> None:
    """What it would still bring counts for nothing, whoever waits for it."""
    client = etcd.client()
    etcd.grant(1, 60)
    etcd.grant(2, 60)
    client.lose_answer("lease_keep_alive")
    client.delay("lease_keep_alive", answer=10)
    ended: dict[int, float] = {}

    async def renew(lease_id: int, timeout: float) -> None:
        with pytest.raises(EtcdUnavailableError):
            await client.lease_keep_alive([lease_id], timeout=timeout)
        ended[lease_id] = anyio.current_time()

    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(renew, 1, 2.0)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(renew, 2, 30.0)
    assert ended[1] - started == pytest.approx(2)
    assert ended[2] - started == pytest.approx(2)


async def test_a_lease_without_an_answer_is_missing_from_the_rest(etcd: FakeEtcd) -> None:
    """One lost message costs one lease its renewal."""
    client = etcd.client()
    etcd.grant(1, 60)
    etcd.grant(2, 60)
    client.lose_request("lease_keep_alive")
    answers = await client.lease_keep_alive([1, 2], timeout=2)
    assert list(answers) == [2]


async def test_a_connection_that_is_closed_ends_its_calls(etcd: FakeEtcd) -> None:
    """They fail, at once; its watches are silent."""
    client = etcd.client()
    client.lose_answer("range")
    got = _watch(client)

    async def read() -> None:
        with pytest.raises(EtcdUnavailableError, match="closed"):
            await client.range(Range(b"k"), timeout=60)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(1)
        await client.aclose()
    etcd.put("k/1")
    await anyio.sleep(1)
    assert got == [WatchCreated(1)]
    assert anyio.current_time() < 10


# Faults of members


async def test_a_deposed_leader_acknowledges_a_lease_that_is_gone() -> None:
    """Measured on real etcd, and why a keep-alive alone proves nothing."""
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
    """The measured gap: deposed by transfer, it acknowledged 1.9 s later; etcd let the lease end 0.9 s before the time
    that the acknowledgement promised."""
    async with FakeEtcd(members=2, election_timeout=1.0) as etcd:
        old = etcd.client("old", endpoints=etcd.members[:1])
        etcd.grant(7, 10)
        etcd.members[0].depose()
        await anyio.sleep(1.9)
        sent_at = anyio.current_time()
        ttl = (await old.lease_keep_alive([7], timeout=1))[7].ttl
        assert etcd.leases()[7] + anyio.current_time() - (sent_at + ttl) == pytest.approx(-0.9)


async def test_writes_to_a_deposed_leader_come_to_nothing() -> None:
    """Even after it has found out."""
    async with FakeEtcd(members=2) as etcd:
        old = etcd.client("old", endpoints=etcd.members[:1])
        etcd.members[0].depose()
        with pytest.raises(EtcdUnavailableError):
            await old.txn([], [Put(b"k")], timeout=5)
        etcd.members[0].recover()
        await anyio.sleep(1)
        assert not etcd.keys()


async def test_a_lagging_member_is_silent_until_it_has_caught_up() -> None:
    """Its watches come late, its reads wait, its writes are committed before they are answered."""
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client(endpoints=etcd.members[1:])
        got = _watch(client)
        etcd.grant(7, 10)
        await anyio.sleep(0.1)
        etcd.members[1].lag()
        with pytest.raises(EtcdUnavailableError):
            await client.txn([], [Put(b"k/1")], timeout=2)
        assert list(etcd.keys()) == [b"k/1"]
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=2)
        assert (await client.lease_keep_alive([7], timeout=1))[7].ttl == 10
        late = _watch(client)
        await anyio.sleep(1)
        assert (got, late) == ([WatchCreated(1)], [WatchCreated(1)])
        etcd.members[1].recover()
        await anyio.sleep(0.1)
        assert _revisions(got) == _revisions(late) == [2]


async def test_a_frozen_member_says_nothing(etcd: FakeEtcd) -> None:
    """As on SIGSTOP: connections stand, nothing comes."""
    client = etcd.client()
    got = _watch(client)
    etcd.grant(7, 60)
    await anyio.sleep(0.1)
    etcd.members[0].freeze()
    etcd.put("k/1")
    with pytest.raises(EtcdUnavailableError):
        await client.lease_keep_alive([7], timeout=5)
    with pytest.raises(EtcdUnavailableError):
        await client.range(Range(b"k"), timeout=5)
    assert got == [WatchCreated(1)]
    etcd.members[0].recover()
    await anyio.sleep(0.1)
    assert _revisions(got) == [2]


async def test_a_client_leaves_a_dead_member_when_it_is_told_to() -> None:
    """Switching is the caller's decision; the streams follow."""
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client()
        got = _watch(client)
        await anyio.sleep(0.1)
        etcd.members[0].kill()
        started = anyio.current_time()
        with pytest.raises(EtcdUnavailableError, match="refused"):
            await client.range(Range(b"k"), timeout=5)
        assert anyio.current_time() == started
        await anyio.sleep(1)
        assert {type(message) for message in got[1:]} == {WatchBroken}
        client.switch_endpoint()
        assert (await client.range(Range(b"k"), timeout=5)).header.member_id == etcd.members[1].member_id
        await anyio.sleep(1)
        assert got[-1] == WatchCreated(1, resumed=True)


async def test_an_etcd_that_is_down_fails_at_once_and_comes_back_with_its_data(etcd: FakeEtcd) -> None:
    """Leases get their full time when it does."""
    client = etcd.client()
    got = _watch(client)
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
    """Until there is one, or they time out."""
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


# Time travel


async def test_a_restored_backup_takes_revision_and_term_back(etcd: FakeEtcd) -> None:
    """And brings leases to life that were gone; the watch knows nothing of it."""
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


async def test_a_wiped_etcd_looks_the_same_but_for_its_revision(etcd: FakeEtcd) -> None:
    """Cluster id, member id and raft term are those of before: measured."""
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


async def test_a_watch_that_was_left_behind_by_compaction_is_cancelled(etcd: FakeEtcd) -> None:
    """It cannot go on without a gap."""
    client = etcd.client()
    got = _watch(client)
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


async def test_an_id_that_is_taken_and_a_lease_that_is_gone_are_told_apart(etcd: FakeEtcd) -> None:
    """Candidates resolve lost answers by these two."""
    client = etcd.client()
    etcd.grant(7, 10)
    with pytest.raises(LeaseExistsError):
        await client.lease_grant(10, 7, timeout=1)
    with pytest.raises(LeaseNotFoundError):
        await client.lease_revoke(8, timeout=1)
