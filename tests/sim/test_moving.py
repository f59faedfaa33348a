"""etcd elects another leader: keys move to new leases, and no term ends."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import EtcdUnavailableError, LossReason
from etcdleader.etcd3 import etcd3
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import Seen, moved, moves_in
from tests.sim.world import CONFIG, Recorder, leading, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin


async def test_the_key_moves_to_another_lease_and_the_term_continues(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        token, before = term.token, await moved(etcd, term)
        kv = etcd.keys()[term.key.encode()]
        assert (kv.create_revision, kv.lease) == (token, term.lease_id)
        assert term.lease_id != before
        assert manager.term is term
        assert manager.statistics().lease_moves == 1
        # The old lease is left to expire, and no key with it.
        await anyio.sleep(2 * CONFIG.lease)
        assert list(etcd.leases()) == [term.lease_id]
        assert term.is_valid()
        record = await manager.leader()
        assert record is not None
        assert (record.token, record.lease_id) == (token, term.lease_id)


async def test_a_renewal_under_a_later_raft_term_extends_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """etcd's former leader may wake up and revoke leases in its records, even if its successor has renewed them."""
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        await until(lambda: client.calls["lease_keep_alive"] == 2)
        confirmed_at = clock()
        client.fail("lease_grant", EtcdUnavailableError("no space"), times=10_000)
        etcd.change_leader()
        await until(lambda: not term.is_valid())
        assert clock() == pytest.approx(confirmed_at + TRUSTED, abs=0.01)
        await until(lambda: term.loss_reason is not None, timeout=1)
        assert term.loss_reason is LossReason.EXPIRED
        client.clear_faults()


async def test_etcd_may_elect_leader_after_leader(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """If this happens in the middle of a move, the key moves again."""
    client = etcd.client()
    client.latency = 0.05
    async with leading(client, clock) as (manager, term):
        for pause in (0.01, 0.1, 0.3, 1, 2, 3) * 4:
            etcd.change_leader()
            await anyio.sleep(pause)
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()
        moves = manager.statistics().lease_moves
        await anyio.sleep(CONFIG.lease)
        assert manager.statistics().lease_moves == moves
        assert etcd.keys()[term.key.encode()].lease == term.lease_id


async def test_the_raft_term_of_a_lease_is_not_that_of_the_response_to_its_grant(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Another leader may be elected between the grant and its response. The former leader has the lease recorded."""
    client = etcd.client()
    client.delay("lease_grant", times=1)
    manager = make(client, clock)

    def elect(call: Call) -> None:
        if call.kind == "lease_grant" and call.stage == "before":
            etcd.hooks.remove(elect)
            etcd.change_leader()

    etcd.hooks.append(elect)
    async with manager:
        term = await manager.wait_elected()
        await until(lambda: manager.statistics().lease_moves == 1, timeout=CONFIG.lease / 2)
        assert term.is_valid()


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_move_without_a_response_is_repeated_with_the_same_lease(
    etcd: FakeEtcd, clock: VirtualClock, lost: str, times: int
) -> None:
    """This holds whether it was applied or not.

    Another lease could be one too many: the first transaction may still arrive.
    """
    client = etcd.client()
    seen = Seen(etcd)
    held = 0

    async def hold_back(call: Call) -> None:
        nonlocal held
        if call.stage == lost and held < times and list(moves_in(call)):
            held += 1
            await anyio.sleep_forever()

    etcd.hooks.append(hold_back)
    async with leading(client, clock) as (_, term):
        client.stall_watches()
        await moved(etcd, term)
        assert len(seen.moves) >= (times if lost == "before" else 1), "a renewal may find it applied"
        assert len({lease for _, lease in seen.moves}) == 1
        assert etcd.keys()[term.key.encode()].lease == term.lease_id
        client.resume_watches()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


@pytest.mark.parametrize("fault", ["refused", "lost", "answer lost"])
async def test_a_grant_that_fails_is_requested_again(etcd: FakeEtcd, clock: VirtualClock, fault: str) -> None:
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        if fault == "refused":
            client.fail("lease_grant", EtcdUnavailableError("no leader"), times=5)
        elif fault == "lost":
            client.lose_request("lease_grant", times=2)
        else:
            client.lose_answer("lease_grant", times=2)
        await moved(etcd, term)
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert list(etcd.leases()) == [term.lease_id]


async def test_nothing_extends_the_deadline_while_a_move_has_no_response(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It was applied without the term's knowledge. The deadline is the earlier one of both leases."""
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        await until(lambda: client.calls["lease_keep_alive"] == 2)
        confirmed_at = clock()
        quiet = False

        async def hold_back(call: Call) -> None:
            nonlocal quiet
            if call.stage == "before" and list(moves_in(call)):
                quiet = True
                await anyio.sleep_forever()

        etcd.hooks.append(hold_back)
        etcd.change_leader()
        await until(lambda: quiet)
        await until(lambda: not term.is_valid())
        assert clock() <= confirmed_at + TRUSTED + 0.01


async def test_a_new_lease_that_ends_before_the_move_is_replaced(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    seen = Seen(etcd)
    async with leading(client, clock) as (_, term):

        def revoke(call: Call) -> None:
            if call.stage == "before" and (found := list(moves_in(call))):
                etcd.hooks.remove(revoke)
                etcd.revoke(found[0][1])

        etcd.hooks.append(revoke)
        await moved(etcd, term)
        assert len({lease for _, lease in seen.moves}) == 2
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


async def test_a_request_to_step_down_just_before_the_move_is_not_lost(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The watch that would deliver it is silent. The move itself detects that the key was put."""
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        client.stall_watches()

        def ask(call: Call) -> None:
            if call.stage == "before" and list(moves_in(call)):
                etcd.hooks.remove(ask)
                etcd.request_step_down(term.key)

        etcd.hooks.append(ask)
        etcd.change_leader()
        await until(lambda: term.loss_reason is LossReason.RESIGNED, timeout=CONFIG.lease)


@pytest.mark.parametrize("how", ["deleted", "detached", "overwritten"])
async def test_a_key_that_is_deleted_or_changed_before_the_move_ends_the_term(
    etcd: FakeEtcd, clock: VirtualClock, how: str
) -> None:
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        client.stall_watches()

        def take_away(call: Call) -> None:
            if call.stage == "before" and list(moves_in(call)):
                etcd.hooks.remove(take_away)
                if how == "deleted":
                    etcd.delete(term.key)
                elif how == "detached":
                    etcd.put(term.key, ignore_value=True)
                else:
                    etcd.put(term.key, "thief", ignore_lease=True)

        etcd.hooks.append(take_away)
        etcd.change_leader()
        await until(lambda: term.loss_reason is LossReason.DELETED, timeout=CONFIG.lease)


@pytest.mark.parametrize("lost", ["request", "answer", "neither"])
@pytest.mark.parametrize("end", ["stop", "resign", "delete"])
async def test_an_end_in_the_middle_of_a_move_leaves_no_key_and_no_lease(
    etcd: FakeEtcd, clock: VirtualClock, end: str, lost: str
) -> None:
    """The key may be on either lease: both are revoked."""
    client = etcd.client()
    manager = make(client, clock)
    under_way = anyio.Event()

    async def hold_back(call: Call) -> None:
        if list(moves_in(call)) and call.stage == ("before" if lost == "request" else "after"):
            under_way.set()
            if lost != "neither":
                await anyio.sleep(5)

    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        term = await manager.wait_elected()
        etcd.hooks.append(hold_back)
        etcd.change_leader()
        await under_way.wait()
        if end == "delete":
            etcd.delete(term.key)
        elif end == "resign":
            await manager.resign()
        await manager.stop()
    assert not etcd.keys()
    await anyio.sleep(CONFIG.lease + 2)
    assert not etcd.keys()
    assert not etcd.leases()


async def test_a_guard_from_before_a_move_is_refused_and_one_from_after_it_holds(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    async with leading(etcd, clock) as (_, term):
        before = term.guard()
        await moved(etcd, term)
        after = term.guard()
        assert [str(one.value) for one in before] != [str(one.value) for one in after]
        assert [one.value for one in after] == [term.token, term.lease_id]


async def test_a_transaction_of_the_term_survives_a_move_at_any_moment(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It is applied once, under the lease that the key is on then. The `failure` branch is not applied."""
    client = etcd.client()
    client.latency = 0.05
    done, failed = etcd3.transactions.Put("done", "x"), etcd3.transactions.Put("failed", "x")
    async with leading(client, clock) as (_, term):
        for moment in range(40):
            etcd.change_leader()
            etcd_lease = term.lease_id
            await anyio.sleep(moment * 0.025)
            before = etcd.revision
            succeeded, _ = await term.transaction([done], [failed])
            assert succeeded
            puts = [event.kv.key for one in etcd.history[before - 1 :] for event in one.events]
            assert puts.count(b"done") == 1
            await until(lambda: term.lease_id != etcd_lease)  # noqa: B023
        assert b"failed" not in etcd.keys()
        etcd.delete(term.key)
        assert (await term.transaction([done], [failed]))[0] is False
        assert b"failed" in etcd.keys()


async def test_a_transaction_of_a_term_whose_key_is_on_a_foreign_lease_fails(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    done, failed = etcd3.transactions.Put("done", "x"), etcd3.transactions.Put("failed", "x")
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        client.stall_watches()
        etcd.grant(77, 600)
        etcd.put(term.key, ignore_value=True, lease=77)
        assert (await term.transaction([done], [failed]))[0] is False
        assert b"failed" in etcd.keys()
        assert b"done" not in etcd.keys()


async def test_an_extension_after_a_change_of_leader_moves_the_key_at_once(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        etcd.change_leader()
        before = clock()
        await manager.extend(term)
        assert clock() - before < 0.1
        assert manager.statistics().lease_moves == 1
        assert term.remaining() == pytest.approx(TRUSTED, abs=0.1)


async def test_observers_see_no_change_of_leader_in_a_move(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term), make(etcd, clock, "observer").observe() as seen:
        first = await anext(seen)
        assert first is not None
        await moved(etcd, term)
        with anyio.move_on_after(60):
            raise AssertionError(f"{await anext(seen)}")


async def test_no_callback_is_called_for_a_move(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await moved(etcd, term)
        await anyio.sleep(CONFIG.lease)
        assert recorder.entries == ["elected"]
        assert recorder.errors == []


async def test_a_restored_cluster_of_a_lower_raft_term_and_the_same_revision_is_moved_to(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Raft terms start again there. Otherwise no term that counts would ever be reached again."""
    async with leading(etcd, clock) as (manager, term):
        for _ in range(3):
            await moved(etcd, term)
        await anyio.sleep(CONFIG.renew)
        etcd.restore(etcd.snapshot(), raft_term=2)
        moves = manager.statistics().lease_moves
        await until(lambda: manager.statistics().lease_moves == moves + 1, timeout=CONFIG.lease)
        await anyio.sleep(3 * CONFIG.lease)
        assert term.is_valid()
