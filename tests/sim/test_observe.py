"""Observe the leader: the current state, then each newer one. Never an older one, and never a backlog."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from etcdleader import EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError, LeaderRecord
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import CallKind, FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, Recorder, make, until

pytestmark = pytest.mark.anyio

LEASE = 77


def put_candidate(etcd: FakeEtcd, name: str, value: str | bytes | None = None) -> LeaderRecord:
    """Put a foreign candidate's key by hand. Return the record that an observer reports if the value is text."""
    if LEASE not in etcd.leases():
        etcd.grant(LEASE, 10**6)
    key = f"{ELECTION}/{name}"
    etcd.put(key, name if value is None else value, lease=LEASE)
    kv = etcd.keys()[key.encode()]
    return LeaderRecord(kv.value.decode(errors="replace"), kv.create_revision, key, LEASE)


async def next_of(leaders: AsyncIterator[LeaderRecord | None], within: float = 1) -> LeaderRecord | None:
    with anyio.fail_after(within):
        return await anext(leaders)


async def quiet(leaders: AsyncIterator[LeaderRecord | None]) -> bool:
    """Return whether the observer yields no further item for a long time."""
    with anyio.move_on_after(100):
        await anext(leaders)
        return False
    return True


async def test_the_first_item_is_the_current_state_and_needs_no_campaign(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with make(etcd, clock).observe() as leaders:
        assert await next_of(leaders) is None
    record = put_candidate(etcd, "a")
    put_candidate(etcd, "b")
    observer = make(etcd, clock)
    async with observer.observe() as leaders:
        assert await next_of(leaders) == record
        assert await quiet(leaders)
    assert etcd.calls["lease_grant"] == 0
    assert not observer.is_leader()


async def test_each_leader_and_each_lack_of_one_is_an_item(etcd: FakeEtcd, clock: VirtualClock) -> None:
    first, second = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with make(etcd, clock, "observer").observe() as leaders:
        assert await next_of(leaders) is None
        async with first:
            one = await next_of(leaders)
            assert one is not None
            assert (one.identity, one.token) == (first.identity, (await first.wait_elected()).token)
            async with second:
                await until(lambda: len(etcd.keys()) == 2)
                await first.stop()
                two = await next_of(leaders)
                assert two is not None
                assert (two.identity, two.token) == (second.identity, (await second.wait_elected()).token)
        assert await next_of(leaders) is None


async def test_a_late_observer_gets_the_newest_state_and_no_backlog(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with make(etcd, clock).observe() as leaders:
        assert await next_of(leaders) is None
        for number in range(1000):
            etcd.delete(put_candidate(etcd, f"{number}").key)
            if number % 100 == 0:
                await anyio.sleep(1)
        record = put_candidate(etcd, "last")
        await anyio.sleep(1)
        before = etcd.calls["range"]
        assert await next_of(leaders) == record
        assert etcd.calls["range"] == before + 1, "one read for all that happened"
        assert await quiet(leaders)


async def test_changes_behind_the_leader_cause_no_read(etcd: FakeEtcd, clock: VirtualClock) -> None:
    record = put_candidate(etcd, "a")
    async with make(etcd, clock).observe() as leaders:
        assert await next_of(leaders) == record
        await anyio.sleep(1)
        before = etcd.calls["range"]
        for number in range(50):
            put_candidate(etcd, f"candidate {number}")
            etcd.delete(f"{ELECTION}/candidate {number}")
        etcd.put("jobsx/b", "of another election")
        assert etcd.calls["range"] == before
        assert await quiet(leaders)
        assert etcd.calls["range"] - before <= 100 / (3 * CONFIG.retry) + 1, "it asks now and then, as it always does"


async def test_a_value_that_was_overwritten_is_reported(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Go's `Proclaim` does this: the leader stays the same and changes its name."""
    old = put_candidate(etcd, "a", "old")
    async with make(etcd, clock).observe() as leaders:
        assert await next_of(leaders) == old
        new = put_candidate(etcd, "a", "new")
        assert new.token == old.token
        assert await next_of(leaders) == new


async def test_invalid_utf_8_in_a_foreign_value_is_replaced(etcd: FakeEtcd, clock: VirtualClock) -> None:
    put_candidate(etcd, "a", b"\xff\xfe\x00go")
    manager = make(etcd, clock)
    async with manager.observe() as leaders:
        record = await next_of(leaders)
    assert record is not None
    assert record.identity == "\ufffd\ufffd\x00go"
    assert await manager.leader() == record
    assert await manager.candidates() == [record]


@pytest.mark.parametrize("trouble", ["broken", "broken and compacted", "refused for a while", "lost creation", "down"])
async def test_a_watch_that_breaks_loses_no_change(etcd: FakeEtcd, clock: VirtualClock, trouble: str) -> None:
    client = etcd.client()
    put_candidate(etcd, "a")
    async with make(client, clock).observe() as leaders:
        await next_of(leaders)
        await anyio.sleep(1)
        if trouble == "refused for a while":
            client.refuse("watch", times=3)
        elif trouble == "lost creation":
            client.lose_request("watch")
        if trouble == "down":
            etcd.stop()
        else:
            client.break_streams()
        etcd.delete(f"{ELECTION}/a")
        record = put_candidate(etcd, "b")
        if trouble == "broken and compacted":
            for number in range(5):
                etcd.put("other", str(number))
            etcd.compact()
        if trouble == "down":
            await anyio.sleep(30)
            etcd.start()
        assert await next_of(leaders, within=10 * CONFIG.retry) == record
        etcd.delete(record.key)
        assert await next_of(leaders, within=10 * CONFIG.retry) is None


async def test_a_change_before_the_watch_is_created_is_reported_once_it_is(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.lose_request("watch")
    first = put_candidate(etcd, "a")
    async with make(client, clock).observe() as leaders:
        assert await next_of(leaders) == first
        etcd.delete(first.key)
        second = put_candidate(etcd, "b")
        assert await next_of(leaders, within=1.5 * CONFIG.retry) == second


async def test_a_change_while_the_response_is_in_flight_is_reported_at_once(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The leader is not known then, so it is unclear whether a change concerns it."""
    client = etcd.client()
    first = put_candidate(etcd, "a")
    put_candidate(etcd, "b")
    async with make(client, clock).observe() as leaders:
        assert await next_of(leaders) == first
        client.latency = 0.2
        etcd.delete(first.key)
        async with anyio.create_task_group() as group:
            group.start_soon(overtake, etcd, client, f"{ELECTION}/b")
            while await next_of(leaders) is not None:
                pass


async def overtake(etcd: FakeEtcd, client: FakeClient, key: str) -> None:
    """The event arrives at 0.2 s, the read reaches etcd at 0.4 s, and its response arrives at 0.6 s."""
    await anyio.sleep(0.5)
    client.latency = 0
    etcd.delete(key)


async def test_a_lagging_member_never_causes_an_older_state(clock: VirtualClock) -> None:
    """Its watch delivers old events late. No state is reported twice, and none after a newer one."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        items: list[LeaderRecord | None] = []
        async with make(client, clock).observe() as leaders, anyio.create_task_group() as group:

            async def follow() -> None:
                while True:
                    items.append(await anext(leaders))

            group.start_soon(follow)
            for number in range(60):
                record = put_candidate(etcd, f"{number}")
                await anyio.sleep(0.05)
                member = etcd.members[number % 3]
                member.lag()
                client.report_endpoint_failure(client.endpoint_number)
                etcd.delete(record.key)
                await anyio.sleep(0.05)
                member.recover()
            last = put_candidate(etcd, "last")
            await until(lambda: items[-1:] == [last])
            group.cancel_scope.cancel()
        tokens = [record.token for record in items if record is not None]
        assert tokens == sorted(set(tokens))


async def test_an_observer_detects_a_silent_watch(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A member that stands still sends no error either. Only a request detects it."""
    client = etcd.client()
    async with make(client, clock).observe() as leaders:
        assert await next_of(leaders) is None
        await anyio.wait_all_tasks_blocked()
        client.stall_watches()
        record = put_candidate(etcd, "a")
        assert await next_of(leaders, within=3 * CONFIG.retry + 1) == record


async def test_a_timeout_around_the_next_item_loses_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A timeout at the first item does not turn it into "no leader". Later timeouts lose nothing either."""
    client = etcd.client()
    client.latency = 0.1
    first = put_candidate(etcd, "a")
    problems: list[object] = []
    async with make(client, clock).observe() as leaders:
        with anyio.move_on_after(0.15):
            problems.append(await anext(leaders))
        if (found := await next_of(leaders)) != first:
            problems.append(found)
        await anyio.sleep(1)
        etcd.delete(first.key)
        second = put_candidate(etcd, "b")
        for _ in range(3):
            with anyio.move_on_after(0.15):
                problems.append(await anext(leaders))
        with anyio.move_on_after(100):
            if (found := await anext(leaders)) != second:
                problems.append(found)
            assert problems == []
            return
    pytest.fail("the second leader was never reported")


async def test_a_watch_that_is_always_refused_is_requested_with_pauses(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = 0.001
    client.refuse("watch", times=1e9)
    async with make(client, clock).observe() as leaders:
        assert await next_of(leaders) is None
        assert await quiet(leaders)
    assert client.calls["watch"] <= 3 * 100 / CONFIG.retry


@pytest.mark.parametrize("kind", ["watch", "range"])
@pytest.mark.parametrize("leaves", [False, True])
async def test_an_outage_of_an_observer_hides_no_later_one(
    etcd: FakeEtcd, clock: VirtualClock, kind: CallKind, leaves: bool
) -> None:
    """Its outage ends when its watch works again, and when its block is left. A later outage is reported again."""
    client = etcd.client()
    manager = make(client, clock)
    recorder = Recorder(manager)

    async def read(leaders: AsyncIterator[LeaderRecord | None]) -> None:
        with anyio.move_on_after(5):
            while True:
                await anext(leaders)

    async def two_outages() -> None:
        for _ in range(2):
            client.partition()
            await anyio.sleep(CONFIG.renew + CONFIG.retry + 0.5)
            client.heal()
            await anyio.sleep(CONFIG.lease)

    async with manager:
        await manager.wait_elected()
        async with manager.observe() as leaders:
            client.refuse(kind, times=1e9)
            await read(leaders)
            client.clear_faults()
            if not leaves:
                await read(leaders)
                await two_outages()
        if leaves:
            await two_outages()
    assert [type(error) for error in recorder.errors] == [EtcdRefusedError, EtcdUnavailableError, EtcdUnavailableError]


async def test_a_regression_of_the_cluster_is_an_error_and_not_a_state(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with make(etcd, clock).observe() as leaders:
        assert await next_of(leaders) is None
        backup = etcd.snapshot()
        record = put_candidate(etcd, "a")
        assert await next_of(leaders) == record
        await anyio.sleep(1)
        etcd.restore(backup)
        with pytest.raises(EtcdRegressedError):
            await next_of(leaders, within=10)


async def test_leaving_the_block_closes_the_watch_and_the_connection(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """This holds even if the block fails. A connection that others use stays open."""
    client = etcd.client()
    manager = make(client, clock)
    with pytest.raises(ZeroDivisionError):
        async with manager.observe() as leaders:
            await next_of(leaders)
            raise ZeroDivisionError
    assert list(etcd.members[0].watches._all()) == []
    assert connections._pool == {}
    async with manager:
        term = await manager.wait_elected()
        async with manager.observe() as leaders:
            await next_of(leaders)
        assert await manager.extend() is term


async def test_a_read_of_the_leader_fails_within_retry_if_etcd_does_not_respond(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    etcd.members[0].freeze()
    for question in (manager.leader, manager.candidates):
        asked_at = anyio.current_time()
        with pytest.raises(EtcdUnavailableError):
            await question()
        assert anyio.current_time() - asked_at <= CONFIG.retry
    etcd.members[0].recover()
    client.refuse("range")
    with pytest.raises(EtcdRefusedError):
        await manager.leader()
    assert connections._pool == {}
