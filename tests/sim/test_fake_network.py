"""The network of the fake fails exactly as ordered."""

from __future__ import annotations

import anyio
import pytest

from etcdleader._etcd.api import (
    Compare,
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
from tests.sim.fake_watch import revisions, watch_k

pytestmark = pytest.mark.anyio


async def test_a_lost_request_is_not_applied_and_a_request_with_a_lost_response_is(etcd: FakeEtcd) -> None:
    """The caller cannot distinguish the two cases."""
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


async def test_a_fault_hits_the_ordered_number_of_calls_of_its_kind(etcd: FakeEtcd) -> None:
    """Otherwise a schedule would hit other calls than intended."""
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


async def test_a_request_may_be_applied_and_fail(etcd: FakeEtcd) -> None:
    """etcd 3.5 answers "no space" to the very put that it applied."""
    client = etcd.client()
    client.fail("txn", EtcdUnavailableError("database space exceeded"), applied=True)
    with pytest.raises(EtcdUnavailableError, match="space"):
        await client.txn([], [Put(b"k")], timeout=1)
    assert list(etcd.keys()) == [b"k"]


async def test_a_request_is_applied_although_its_caller_gave_up(etcd: FakeEtcd) -> None:
    """A caller that gives up does not cancel its request."""
    client = etcd.client()
    client.delay("txn", request=30)
    with anyio.move_on_after(1):
        await client.txn([], [Put(b"k")], timeout=5)
    await anyio.sleep(28)
    assert not etcd.keys()
    await anyio.sleep(2)
    assert list(etcd.keys()) == [b"k"]


async def test_latency_applies_in_each_direction(etcd: FakeEtcd) -> None:
    """A request that is applied late is another fault than a late response."""
    client = etcd.client()
    client.latency = 0.5
    started = anyio.current_time()
    await client.txn([], [Put(b"k")], timeout=5)
    assert etcd.history[0].time - started == pytest.approx(0.5)
    assert anyio.current_time() - started == pytest.approx(1)


async def test_a_seed_repeats_the_same_latencies() -> None:
    """A failing schedule must be reproducible."""

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


def test_a_seed_repeats_the_pauses_of_all_users() -> None:
    """They draw from their client, whose random numbers are the cluster's. Two clients do not draw the same numbers."""

    def draw(seed: int) -> list[float]:
        etcd = FakeEtcd(seed=seed)
        return [client.uniform(0, 1) for client in (etcd.client("a"), etcd.client("b"), etcd)]

    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1))) == 3


async def test_a_partition_delays_one_client_and_drops_abandoned_requests(etcd: FakeEtcd) -> None:
    """The other clients continue. A request that its caller gave up is not delivered late."""
    alice, bob = etcd.client("alice"), etcd.client("bob")
    alice.partition()
    with pytest.raises(EtcdUnavailableError):
        await alice.txn([], [Put(b"k/alice")], timeout=3)
    await bob.txn([], [Put(b"k/bob")], timeout=3)
    alice.heal()
    await anyio.sleep(10)
    assert list(etcd.keys()) == [b"k/bob"]
    await alice.txn([], [Put(b"k/alice")], timeout=3)


async def test_no_space_refuses_puts_and_grants(etcd: FakeEtcd) -> None:
    """All other requests succeed: a leader keeps its lease, and can release it."""
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


async def test_a_broken_stream_resumes_at_the_next_revision(etcd: FakeEtcd) -> None:
    """No event in between is missed, and none is delivered twice."""
    client = etcd.client()
    got = watch_k(client)
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
    assert revisions(got) == [2, 3, 4]


async def test_a_stalled_watch_is_silent_and_delivers_all_events_later(etcd: FakeEtcd) -> None:
    """All other calls succeed. Only a new stream, if it can be created, reveals the fault."""
    client = etcd.client()
    got = watch_k(client, timeout=400)
    await anyio.sleep(0.1)
    client.stall_watches()
    etcd.put("k/1")
    await client.range(Range(b"k"), timeout=1)
    await anyio.sleep(600)
    assert got == [WatchCreated(1)]
    client.resume_watches()
    await anyio.sleep(0.1)
    assert revisions(got) == [2]


async def test_a_watch_that_is_not_created_in_time_breaks_its_stream(etcd: FakeEtcd) -> None:
    """It is then created again, until that succeeds."""
    client = etcd.client()
    client.lose_answer("watch")
    got = watch_k(client, timeout=2)
    await anyio.sleep(1.9)
    assert got == []
    await anyio.sleep(0.5)
    assert [type(message) for message in got] == [WatchBroken, WatchCreated]
    assert got[1] == WatchCreated(1)


async def test_a_refused_watch_is_cancelled(etcd: FakeEtcd) -> None:
    """etcd refuses the watch, not the stream."""
    client = etcd.client()
    client.refuse("watch")
    got = watch_k(client)
    await anyio.sleep(0.1)
    (message,) = got
    assert isinstance(message, WatchCanceled)
    assert isinstance(message.error, EtcdRefusedError)


async def test_a_closed_watch_delivers_no_more_events(etcd: FakeEtcd) -> None:
    """This holds even if a message is on its way."""
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


async def test_a_sink_is_never_called_from_inside_the_call_of_watch(etcd: FakeEtcd) -> None:
    """The port requires it, because its users have not stored the handle yet."""
    got = watch_k(etcd.client())
    assert got == []
    await anyio.sleep(0.1)
    assert got


async def test_a_keep_alive_that_times_out_ends_the_stream_for_all(etcd: FakeEtcd) -> None:
    """A later response on the stream counts for no lease."""
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


async def test_a_lease_without_a_response_is_missing_among_the_others(etcd: FakeEtcd) -> None:
    """One lost message costs one lease its renewal."""
    client = etcd.client()
    etcd.grant(1, 60)
    etcd.grant(2, 60)
    client.lose_request("lease_keep_alive")
    answers = await client.lease_keep_alive([1, 2], timeout=2)
    assert list(answers) == [2]


async def test_a_connection_that_is_closed_ends_its_calls(etcd: FakeEtcd) -> None:
    """Calls fail at once, and watches are silent."""
    client = etcd.client()
    client.lose_answer("range")
    got = watch_k(client)

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


@pytest.mark.parametrize("seed", range(20))
async def test_the_end_of_a_stream_is_received_after_earlier_responses(seed: int) -> None:
    """As on HTTP/2, the trailers follow the data. So the oldest unanswered lease is the refused one."""
    async with FakeEtcd(seed=seed) as etcd:
        client = etcd.client()
        client.latency = (0.0, 0.2)
        for lease_id in (7, 8, 9):
            etcd.grant(lease_id, 60)
        client.delay("lease_keep_alive", times=1)  # of the first: none
        client.refuse("lease_keep_alive")
        answers = await client.lease_keep_alive([7, 8, 9], timeout=5)
        assert sorted(answers) == [7, 9]
        assert list(answers.errors) == [8]


async def test_keep_alives_behind_a_failed_one_on_its_stream_are_not_served(etcd: FakeEtcd) -> None:
    """etcd closes the stream, so an unanswered keep-alive must not be trusted."""
    client = etcd.client()
    for lease_id in (7, 8, 9):
        etcd.grant(lease_id, 10)
    await anyio.sleep(5)
    client.fail("lease_keep_alive", EtcdUnavailableError("reset"))
    with pytest.raises(EtcdUnavailableError):
        await client.lease_keep_alive([7, 8, 9], timeout=1)
    await anyio.sleep(0.1)
    assert len(etcd.leases()) == 3
    assert max(etcd.leases().values()) < 5


async def test_a_closed_fake_may_be_opened_again() -> None:
    """Each time it still has its data, and it opens new connections."""
    etcd = FakeEtcd()
    for number in range(2):
        async with etcd:
            await etcd.txn([], [Put(b"k", b"%d" % number)], timeout=1)
            assert (await etcd.range(Range(b"k"), timeout=1)).kvs[0].version == number + 1
