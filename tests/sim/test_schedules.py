"""Schedules that gave two leaders, no leader, or an orphaned key, here or elsewhere. Each test replays one of them."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from etcdleader import EtcdLeaderManager, EtcdUnavailableError, LossReason, Term
from etcdleader._etcd.api import KeepAlive, KeepAliveResponses
from etcdleader._etcd.lease_stream import KeepAliveStream
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call, FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.scripted_stream import Opener
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin
NO_SPACE = EtcdUnavailableError("RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded")


def puts(etcd: FakeEtcd) -> list[bytes]:
    """Return every key of the election that was ever put, in order."""
    return [
        event.kv.key
        for commit in etcd.history
        for event in commit.events
        if event.type == "put" and event.kv.key.startswith(f"{ELECTION}/".encode())
    ]


# A late response to one keep-alive was credited to another. The lease was trusted for 2.6 s too long.


class WiredClient(FakeClient):
    """Sends its keep-alives through the product's stream handling, over a transport that the test controls."""

    def __init__(self, etcd: FakeEtcd) -> None:
        super().__init__("wired", etcd._cluster, etcd.members)
        self.opener = Opener()
        self._keep_alives = KeepAliveStream(self.opener)

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        return await self._keep_alives.send(lease_ids, timeout)

    async def reaches_etcd(self, lease_id: int) -> KeepAlive:
        """Apply a keep-alive. Return its response, which is still in flight."""
        return await self.member.keep_alive(lease_id)


async def test_a_late_response_to_an_earlier_keep_alive_is_not_credited_to_a_later_one(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """A is applied, and its response is delayed. Later keep-alives are lost.

    A's response arrives just after the last one was sent. Counted from that last sending, the lease would be trusted
    for seconds after etcd has elected another leader.
    """
    client = WiredClient(etcd)
    first, second = make(client, clock), make(etcd, VirtualClock(), "successor")
    async with first:
        term = await first.wait_elected()
        async with second:
            await until(lambda: bool(client.opener.streams))
            stream = client.opener.streams[0]
            late = await client.reaches_etcd(term.lease_id)
            await anyio.sleep(TRUSTED - CONFIG.retry / 2 - clock())
            assert len(client.opener.streams) > 2, "each that was not answered has ended its stream"
            assert client.opener.last.sent, "the last one is under way"
            stream.bring(late)
            await anyio.sleep(0.1)
            assert first.statistics().renewals == 0
            assert term.remaining() == pytest.approx(TRUSTED - clock())
            await second.wait_elected()
            assert not first.is_leader()
            assert term.loss_reason is LossReason.EXPIRED


# A key name is used again, on a member that lags.


async def test_an_old_deletion_of_a_reused_name_elects_no_candidate(clock: VirtualClock) -> None:
    """Go keeps its lease, and so its key's name, from one candidacy to the next.

    Go's candidate resigned and joined again before we joined behind it. The member that serves our watch delivers the
    old DELETE afterwards.
    """
    async with FakeEtcd(members=2) as etcd:
        behind = etcd.members[1]
        client = etcd.client("b")
        manager = make(client, clock)
        lease_id = 0x60
        key = f"{ELECTION}/{lease_id:x}"
        etcd.grant(lease_id, 3600)
        etcd.put(key, "go", lease=lease_id)
        behind.lag()
        etcd.delete(key)
        etcd.put(key, "go", lease=lease_id)

        def move(call: Call) -> None:
            if call.kind == "txn" and call.stage == "after":
                etcd.hooks.remove(move)
                client.report_endpoint_failure(client.endpoint_number)

        etcd.hooks.append(move)
        client.delay("watch", request=0.1)  # so that the lagging member creates it
        async with manager:
            await until(lambda: len(etcd.keys()) == 2)
            await anyio.sleep(0.5)
            assert client.member is behind
            behind.recover()
            await anyio.sleep(0.2)
            assert not manager.is_leader()
            etcd.delete(key)
            with anyio.fail_after(0.1):
                await manager.wait_elected()


# A first attempt to join arrives late.


async def test_a_join_that_arrives_during_the_next_candidacy_creates_no_key(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Its lease has ended, and no key can be put on it."""
    client = etcd.client()
    client.delay("txn", request=30)
    manager = make(client, clock)
    async with manager:
        first = await manager.wait_elected()
        await anyio.sleep(5)
        etcd.delete(first.key)
        await until(lambda: not first.is_valid())
        second = await manager.wait_elected()
        await anyio.sleep(60)
        assert second.is_valid()
        assert puts(etcd) == [first.key.encode(), second.key.encode()]
        assert list(etcd.keys()) == [second.key.encode()]


async def test_a_key_that_a_late_join_creates_is_deleted_with_its_candidacy(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Our key was deleted by hand. Before we detect that, the first attempt creates it again.

    It is not the key that we won with, and the revocation deletes it.
    """
    client = etcd.client()
    client.latency = 0.1
    client.delay("txn", request=20)
    manager = make(client, clock)
    async with manager:
        first = await manager.wait_elected()
        await anyio.sleep(20.45 - clock())
        etcd.delete(first.key)
        await until(lambda: puts(etcd).count(first.key.encode()) == 2, timeout=0.2)
        await until(lambda: not first.is_valid(), timeout=0.2)
        assert first.loss_reason is LossReason.DELETED
        second = await manager.wait_elected()
        assert second.key != first.key
        assert list(etcd.keys()) == [second.key.encode()]


async def test_a_grant_and_a_join_that_both_arrive_late_last_at_most_a_lease_and_elect_no_candidate(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The late grant creates the old lease again, so the late join finds it. No client renews it."""
    client = etcd.client()
    client.delay("lease_grant", request=20)
    client.delay("txn", request=25)
    elected: list[Term] = []
    manager = make(client, clock)
    manager.on_elected(lambda manager, term: elected.append(term))
    async with manager:
        first = await manager.wait_elected()
        etcd.delete(first.key)
        await until(lambda: not first.is_valid())
        second = await manager.wait_elected()
        await until(lambda: first.key.encode() in list(etcd.keys()))
        came_at = clock()
        assert second.is_valid()
        await until(lambda: first.key.encode() not in list(etcd.keys()))
        assert clock() - came_at <= CONFIG.lease + 0.5
        assert second.is_valid()
        assert elected == [first, second]


# A watch breaks, or its next revision is compacted.


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_deletion_while_the_watch_was_broken_is_not_missed(
    etcd: FakeEtcd, clock: VirtualClock, *, compacted: bool
) -> None:
    """This holds for the predecessor's deletion, and for our own after we lead and the watch is created again."""
    client = etcd.client()
    first, second = make(etcd, VirtualClock(), "first"), make(client, clock)
    async with first:
        leader = await first.wait_elected()
        async with second:
            await until(lambda: client.calls["watch"] == 1)
            await anyio.sleep(0.2)
            client.partition()
            client.break_streams()
            etcd.delete(leader.key)
            await first.stop()
            for number in range(10):
                etcd.put(f"{ELECTION}2/{number}")
            if compacted:
                etcd.compact()
            client.heal()
            with anyio.fail_after(0.5):
                term = await second.wait_elected()
            await anyio.sleep(1)
            etcd.delete(term.key)
            await anyio.wait_all_tasks_blocked()
            assert not term.is_valid()


async def test_a_deletion_that_overtakes_the_response_of_a_read_is_kept(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The watch delivers it while the response, which still shows the key, is in flight. The event is newer."""
    client = etcd.client()
    first, second = make(etcd, VirtualClock(), "first"), make(client, clock)
    async with first:
        leader = await first.wait_elected()
        async with second:
            await until(lambda: second.statistics().renewals == 1)
            await anyio.sleep(0.1)
            client.delay("range", answer=0.5)
            client.break_streams()
            await until(lambda: client.calls["watch"] == 2)
            await anyio.sleep(0.2)
            etcd.delete(leader.key)
            with anyio.fail_after(0.5):
                await second.wait_elected()
            assert second.statistics().renewals == 1, "it was no renewal that has found it"


async def test_a_compacted_watch_does_not_end_a_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It reads, and watches from the current revision on."""
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(0.2)
        for _ in range(5):
            client.partition()
            client.break_streams()
            for number in range(10):
                etcd.put(f"{ELECTION}2/{number}")
            etcd.compact()
            client.heal()
            # A watch that has lasted for `retry` is created again without a pause.
            await anyio.sleep(2 * CONFIG.retry)
            assert term.is_valid()
        assert client.calls["watch"] >= 6
        etcd.delete(term.key)
        await anyio.wait_all_tasks_blocked()
        assert not term.is_valid()


# etcd 3.5 reports "no space" for the very put that it applied.


@pytest.mark.parametrize("place", ["leading", "waiting"])
async def test_a_join_that_was_applied_but_refused_counts_though_all_later_writes_are_refused(
    etcd: FakeEtcd, clock: VirtualClock, place: str
) -> None:
    """Only a read shows it: the alarm is raised, and a second put will never be applied."""
    client = etcd.client("b")
    first, manager = make(etcd, VirtualClock(), "first"), make(client, clock)

    def raise_the_alarm(call: Call) -> None:
        if call.client == "b" and call.kind == "txn" and call.stage == "after":
            etcd.no_space = True

    etcd.hooks.append(raise_the_alarm)
    client.fail("txn", NO_SPACE, applied=True)
    async with anyio.create_task_group() as group:
        if place == "waiting":
            await group.start(first.campaign)
        with anyio.fail_after(2 * CONFIG.retry):
            await group.start(manager.campaign)
        (own,) = [kv for kv in etcd.keys().values() if kv.value == manager.identity.encode()]
        if place == "waiting":
            await anyio.sleep(3 * CONFIG.lease)
            assert not manager.is_leader()
            await first.stop()
        with anyio.fail_after(0.1):
            term = await manager.wait_elected()
        assert (term.key.encode(), term.token, term.lease_id) == (own.key, own.create_revision, own.lease)
        await anyio.sleep(3 * CONFIG.lease)
        assert term.is_valid()
        assert puts(etcd).count(own.key) == 1
        await manager.stop()
        assert not etcd.keys()


# Two candidates in one process


@pytest.mark.parametrize("connection", ["shared", "one each"])
async def test_two_electors_of_one_process_and_one_identity_are_two_candidates(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    """The identity is a label. Leases, keys and tokens are separate."""
    monkeypatch.setattr(EtcdLeaderManager, "_draw_identity", lambda _: "sim#abababab")
    shared = etcd.client()
    managers = [make(shared if connection == "shared" else etcd.client(), clock) for _ in range(2)]
    first, second = managers
    assert first.identity == second.identity
    async with first:
        term = await first.wait_elected()
        async with second:
            await until(lambda: len(etcd.keys()) == 2)
            await anyio.sleep(5 * CONFIG.lease)
            assert first.is_leader()
            assert not second.is_leader()
            assert len(etcd.leases()) == 2
            etcd.delete(term.key)
            successor = await second.wait_elected()
            assert not first.is_leader()
            assert successor.token > term.token
            assert successor.lease_id != term.lease_id
            await until(lambda: len(etcd.keys()) == 2)
            await anyio.sleep(5 * CONFIG.lease)
            assert second.is_leader()
            assert not first.is_leader()
