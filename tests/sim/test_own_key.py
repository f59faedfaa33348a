"""Our own key while we wait and while we lead: changes by hand or by expiry, and when we detect them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from etcdleader import EtcdLeaderManager, EtcdUnavailableError, LossReason, Term
from etcdleader._etcd.api import KeyValue
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, leading, make, until

pytestmark = pytest.mark.anyio

FOREIGN_LEASE = 0xF0E1
BY_A_RENEWAL = CONFIG.renew + 0.1


def delete(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.delete(kv.key)


def revoke(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.revoke(kv.lease)


def change_its_value(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.put(kv.key, b"thief", lease=kv.lease)


def take_it_off_its_lease(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.put(kv.key, kv.value)


def put_it_on_another_lease(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.grant(FOREIGN_LEASE, 3600)
    etcd.put(kv.key, kv.value, lease=FOREIGN_LEASE)


def make_it_anew(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.delete(kv.key)
    etcd.put(kv.key, kv.value, lease=kv.lease)


def make_it_anew_in_other_hands(etcd: FakeEtcd, kv: KeyValue) -> None:
    etcd.delete(kv.key)
    etcd.put(kv.key, b"thief")


CHANGES = (
    delete,
    revoke,
    change_its_value,
    take_it_off_its_lease,
    put_it_on_another_lease,
    make_it_anew,
    make_it_anew_in_other_hands,
)
Change = Callable[[FakeEtcd, KeyValue], None]


def own(etcd: FakeEtcd, manager: EtcdLeaderManager) -> KeyValue | None:
    """Return the key of a manager, found by its value."""
    for kv in etcd.keys().values():
        if kv.value == manager.identity.encode():
            return kv
    return None


@dataclass
class Queue:
    """A leader and the candidates behind it, each with its own client in the network."""

    managers: list[EtcdLeaderManager]
    clients: list[FakeClient]


@asynccontextmanager
async def queue_of(etcd: FakeEtcd, clock: VirtualClock, size: int) -> AsyncIterator[Queue]:
    """Yield a queue in this order, with all watches created."""
    clients = [etcd.client(f"candidate {number}") for number in range(size)]
    managers = [make(client, clock, client.name) for client in clients]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await anyio.sleep(0.5)
        yield Queue(managers, clients)
        for manager in managers:
            await manager.stop()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_leader_with_a_silent_watch_detects_the_change_by_its_next_renewal(
    etcd: FakeEtcd, clock: VirtualClock, change: Change
) -> None:
    """After most of these changes keep-alives still succeed."""
    async with queue_of(etcd, clock, 1) as queue:
        (manager,), (client,) = queue.managers, queue.clients
        term = await manager.wait_elected()
        client.stall_watches()
        change(etcd, etcd.keys()[term.key.encode()])
        await until(lambda: not term.is_valid(), timeout=BY_A_RENEWAL)
        assert term.loss_reason in {LossReason.DELETED, LossReason.REVOKED}
        etcd.delete(term.key)
        client.resume_watches()
        again = await manager.wait_elected()
        assert (again.token > term.token, again.key != term.key, again.lease_id != term.lease_id) == (True, True, True)


@pytest.mark.parametrize("change", [put_it_on_another_lease, make_it_anew, make_it_anew_in_other_hands])
async def test_a_leader_with_a_working_watch_detects_the_change_at_once(
    etcd: FakeEtcd, clock: VirtualClock, change: Change
) -> None:
    async with queue_of(etcd, clock, 1) as queue:
        term = await queue.managers[0].wait_elected()
        change(etcd, etcd.keys()[term.key.encode()])
        await anyio.wait_all_tasks_blocked()
        assert not term.is_valid()
        assert term.loss_reason is LossReason.DELETED
        etcd.delete(term.key)
        assert (await queue.managers[0].wait_elected()).token > term.token


@pytest.mark.parametrize("place", [1, 2], ids=["next in line", "third"])
@pytest.mark.parametrize("watch", ["works", "is silent"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_waiting_candidate_whose_key_was_changed_rejoins_and_never_leads_by_the_old_key(
    etcd: FakeEtcd, clock: VirtualClock, change: Change, watch: str, place: int
) -> None:
    """In Go, such a candidate becomes the leader when it is first in the queue."""
    async with queue_of(etcd, clock, 3) as queue:
        manager, client = queue.managers[place], queue.clients[place]
        old = own(etcd, manager)
        assert old is not None
        if watch == "is silent":
            client.stall_watches()
        change(etcd, old)
        touched = etcd.keys().get(old.key)
        if touched is not None and touched.lease == old.lease:
            # On our lease it is deleted with the lease.
            await until(lambda: old.key not in list(etcd.keys()), timeout=BY_A_RENEWAL)
        else:
            etcd.delete(old.key)
        await until(lambda: own(etcd, manager) is not None, timeout=BY_A_RENEWAL + CONFIG.retry)
        client.resume_watches()
        new = own(etcd, manager)
        assert new is not None
        assert (new.key != old.key, new.lease != old.lease) == (True, True)
        for other in queue.managers:
            if other is not manager:
                await other.stop()
        term = await manager.wait_elected()
        assert (term.key.encode(), term.token) == (new.key, new.create_revision)


async def test_a_waiting_candidates_old_key_that_another_client_took_blocks_it_like_any_foreign_key(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The old key is older than the new one. It is foreign now, and foreign keys are not deleted."""
    async with queue_of(etcd, clock, 2) as queue:
        leader, manager = queue.managers
        old = own(etcd, manager)
        assert old is not None
        etcd.put(old.key, b"thief")
        await leader.stop()
        await anyio.sleep(60)
        assert not manager.is_leader()
        assert etcd.keys()[old.key].value == b"thief"
        etcd.delete(old.key)
        with anyio.fail_after(1):
            await manager.wait_elected()


async def test_a_waiting_candidate_queues_again_at_a_request_to_step_down(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It has another key, behind all others. The request has no effect when the candidate leads."""
    async with queue_of(etcd, clock, 2) as queue:
        leader, manager = queue.managers
        kv = own(etcd, manager)
        assert kv is not None
        etcd.request_step_down(kv.key)
        await anyio.sleep(CONFIG.lease)
        again = own(etcd, manager)
        assert again is not None
        assert again.create_revision > kv.create_revision
        assert leader.is_leader()
        await leader.stop()
        term = await manager.wait_elected()
        assert term.token == again.create_revision
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_the_same_value_put_on_the_same_lease_is_a_request_to_step_down(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Any client may put it. Only the version has changed."""
    async with queue_of(etcd, clock, 1) as queue:
        term = await queue.managers[0].wait_elected()
        kv = etcd.keys()[term.key.encode()]
        etcd.put(kv.key, kv.value, lease=kv.lease)
        await anyio.wait_all_tasks_blocked()
        assert term.loss_reason is LossReason.RESIGNED


# By expiry: the lease of a waiting candidate ends.


@pytest.mark.parametrize("size", [2, 3], ids=["next in line", "third"])
@pytest.mark.parametrize("first", ["own key", "predecessor"])
async def test_a_candidate_whose_lease_ended_while_it_was_cut_off_rejoins(
    etcd: FakeEtcd, clock: VirtualClock, first: str, size: int
) -> None:
    """Its key and its predecessor's are deleted, in either order.

    It receives both events only later, at the same time.
    """
    async with queue_of(etcd, clock, size) as queue:
        manager, client = queue.managers[-1], queue.clients[-1]
        elected: list[Term] = []
        manager.on_elected(lambda manager, term: elected.append(term))
        old = own(etcd, manager)
        assert old is not None
        client.stall_watches()
        others = [kv for kv in etcd.keys().values() if kv.key != old.key]
        if first == "own key":
            etcd.revoke(old.lease)
        for kv in others:
            etcd.revoke(kv.lease)
        if first != "own key":
            etcd.revoke(old.lease)
        client.resume_watches()
        await until(lambda: own(etcd, manager) is not None, timeout=2 * CONFIG.retry)
        await anyio.sleep(CONFIG.lease)
        assert old.key not in {term.key.encode() for term in elected}


async def test_a_candidate_that_cannot_renew_leaves_the_queue_before_its_lease_ends(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Its watch works, and would deliver the predecessor's DELETE. By then it has another key."""
    async with queue_of(etcd, clock, 2) as queue:
        manager, client = queue.managers[1], queue.clients[1]
        old = own(etcd, manager)
        assert old is not None
        client.fail("lease_keep_alive", EtcdUnavailableError("UNAVAILABLE: reset"), times=10_000)
        await until(lambda: old.key not in list(etcd.keys()))
        assert clock() <= CONFIG.lease, "revoked by itself, not expired"
        client.clear_faults()
        await until(lambda: own(etcd, manager) is not None)
        await queue.managers[0].stop()
        assert (await manager.wait_elected()).key.encode() != old.key


async def test_a_candidate_cut_off_past_its_lease_does_not_win_by_events_received_afterwards(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Both DELETE events wait in the network until the partition ends."""
    async with queue_of(etcd, clock, 3) as queue:
        manager, client = queue.managers[1], queue.clients[1]
        elected: list[Term] = []
        manager.on_elected(lambda manager, term: elected.append(term))
        old = own(etcd, manager)
        assert old is not None
        client.partition()
        await until(lambda: old.key not in list(etcd.keys()), timeout=CONFIG.lease + 1)
        await queue.managers[0].stop()
        term = await queue.managers[2].wait_elected()
        client.heal()
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()
        assert not elected
        assert own(etcd, manager) is not None, "it stands again, behind"


@pytest.mark.parametrize("size", [2, 3], ids=["next in line", "third"])
async def test_a_missed_deletion_of_the_predecessor_is_found_by_the_next_renewal(
    etcd: FakeEtcd, clock: VirtualClock, size: int
) -> None:
    """The read covers both keys, so a silent watch cannot leave an election without a leader for long."""
    async with queue_of(etcd, clock, size) as queue:
        manager, client = queue.managers[-1], queue.clients[-1]
        client.stall_watches()
        for other in queue.managers[:-1]:
            await other.stop()
        with anyio.fail_after(BY_A_RENEWAL):
            term = await manager.wait_elected()
        client.resume_watches()
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_the_deletion_of_a_predecessor_that_was_waiting_itself_elects_no_candidate(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Only a read shows the predecessor then: here it is the leader, which still leads."""
    async with queue_of(etcd, clock, 3) as queue:
        leader, between, last = queue.managers
        gone = own(etcd, between)
        assert gone is not None
        etcd.delete(gone.key)
        await anyio.sleep(CONFIG.lease)
        assert leader.is_leader()
        assert not last.is_leader()
        await leader.stop()
        with anyio.fail_after(0.1):
            await last.wait_elected()


# The key space around it


async def test_when_the_whole_prefix_is_deleted_all_rejoin_and_one_leads(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with queue_of(etcd, clock, 4) as queue:
        old = set(etcd.keys())
        term = await queue.managers[0].wait_elected()
        assert etcd.delete_prefix(f"{ELECTION}/") == 4
        await anyio.wait_all_tasks_blocked()
        assert not term.is_valid()
        await until(lambda: len(etcd.keys()) == 4, timeout=2 * CONFIG.retry)
        await anyio.sleep(CONFIG.lease)
        assert not old & set(etcd.keys())
        assert len(etcd.leases()) == 4
        leaders = [manager.term for manager in queue.managers if manager.term is not None]
        assert [leader.key.encode() for leader in leaders] == list(etcd.keys())[:1]
        assert leaders[0].token > term.token


async def test_elections_whose_names_begin_alike_are_separate(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The prefix ends in a slash."""
    etcd.put(ELECTION, "the name itself")
    etcd.put(f"{ELECTION}2/x", "a sibling's candidate")
    etcd.put(f"{ELECTION}.", "just before the slash")
    etcd.put(f"{ELECTION}0", "just after the slash")
    async with queue_of(etcd, clock, 1) as queue:
        with anyio.fail_after(1):
            term = await queue.managers[0].wait_elected()
        sibling = make(etcd, clock, "sibling", election=ELECTION[:-1])
        async with sibling:
            with anyio.fail_after(1):
                await sibling.wait_elected()
        etcd.delete_prefix(f"{ELECTION}2/")
        etcd.delete(ELECTION)
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_a_request_to_step_down_that_no_watch_delivered_is_found_by_the_next_read(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """It came while the leader's watch was broken, so its revision is below that of the read that follows."""
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        await anyio.sleep(0.5)
        client.partition()
        client.break_streams()
        etcd.request_step_down(term.key)
        client.heal()
        await until(lambda: term.loss_reason is not None, timeout=5)
        assert term.loss_reason is LossReason.RESIGNED


async def test_each_position_in_the_queue_watches_only_its_keys_and_a_new_leader_keeps_its_watches(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """With a thousand candidates, a change must not recreate watches without need."""
    async with queue_of(etcd, clock, 4) as queue:
        prefix = f"{ELECTION}/".encode()
        keys = [record.key.encode() for record in await queue.managers[0].candidates()]

        def watched() -> list[bytes]:
            return sorted(watch.key for watch in etcd.members[0].watches._all())

        assert watched() == sorted([keys[0], prefix, keys[2], keys[1], keys[3], keys[2]])
        await queue.managers[0].stop()
        await queue.managers[1].wait_elected()
        await anyio.sleep(0.5)
        assert watched() == sorted([prefix, keys[2], keys[1], keys[3], keys[2]])
        await queue.managers[1].stop()
        await queue.managers[2].wait_elected()
        await anyio.sleep(0.5)
        assert watched() == sorted([keys[2], keys[3], keys[2]])
