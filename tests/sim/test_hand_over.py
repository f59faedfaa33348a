"""A successor by name: the candidates in front of it queue again, and the leader leaves last."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import (
    EtcdUnavailableError,
    HandOverError,
    LeadershipLostError,
    LossReason,
    NoopLeaderManager,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.handing_over import names, queue_of
from tests.sim.moving import moves_in
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("place", [1, 2, 3, 5])
async def test_the_named_one_leads_and_the_rest_keeps_its_order(
    etcd: FakeEtcd, clock: VirtualClock, place: int
) -> None:
    async with queue_of(etcd, clock, 6) as managers:
        leader, named = managers[0], managers[place]
        term = leader.term
        assert term is not None
        began_at = clock()
        await leader.resign(to=named.identity)
        assert term.loss_reason is LossReason.RESIGNED
        assert clock() - began_at < CONFIG.retry
        assert (await names(leader))[0] == named.identity
        await named.wait_elected()
        await until(lambda: len(etcd.keys()) == len(managers))
        behind, asked = managers[place + 1 :], managers[1:place]
        expected = [one.identity for one in (named, *behind, *asked, leader)]
        assert await names(leader) == expected
        assert [one.statistics().terms for one in managers] == [1 if one in (leader, named) else 0 for one in managers]


async def test_candidates_that_make_way_join_one_after_the_other(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The second one is slower than the third one, and keeps its place in front of it."""
    slow = etcd.client("slow")
    slow.latency = 0.15
    leader, second, third, named = managers = [
        make(etcd, clock, "a"), make(slow, clock), make(etcd, clock, "c"), make(etcd, clock, "d")
    ]  # fmt: skip
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await leader.wait_elected()
        await leader.resign(to=named.identity)
        await until(lambda: len(etcd.keys()) == len(managers))
        assert await names(leader) == [one.identity for one in (named, second, third, leader)]
        for manager in managers:
            await manager.stop()


async def test_candidates_that_made_way_lead_again_in_their_turn(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with queue_of(etcd, clock, 4) as managers:
        await managers[0].resign(to=managers[3].identity)
        for number in (3, 1, 2, 0, 3):
            await managers[number].wait_elected()
            await until(lambda: len(etcd.keys()) == len(managers))
            await managers[number].resign()


async def test_a_manager_that_does_not_lead_hands_nothing_over(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with queue_of(etcd, clock, 3) as managers:
        before = etcd.revision
        await managers[1].resign(to=managers[2].identity)
        await make(etcd, clock).resign(to=managers[2].identity)
        assert etcd.revision == before


@pytest.mark.parametrize("to", ["unknown#00000000", "the leader itself", "two of one name"])
async def test_a_name_that_cannot_lead_next_changes_nothing(etcd: FakeEtcd, clock: VirtualClock, to: str) -> None:
    async with queue_of(etcd, clock, 3) as managers:
        leader = managers[0]
        if to == "two of one name":
            to = managers[2].identity
            etcd.grant(77, 600)
            etcd.put(f"{ELECTION}/77", to, lease=77)
        elif to == "the leader itself":
            to = leader.identity
        before = etcd.revision
        with pytest.raises(HandOverError, match=r"identity|already") as caught:
            await leader.resign(to=to)
        assert caught.value.ahead == ()
        assert etcd.revision == before
        assert leader.is_leader()


async def test_a_foreign_candidate_ahead_prevents_it_before_anybody_was_asked(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    async with queue_of(etcd, clock, 2) as managers:
        etcd.grant(77, 600)
        etcd.put(f"{ELECTION}/77", "go", lease=77)
        late = make(etcd, clock, "late")
        async with late:
            await until(lambda: len(etcd.keys()) == 4)
            before, queue = etcd.revision, await names(late)
            with pytest.raises(HandOverError, match="'go'") as caught:
                await managers[0].resign(to=late.identity)
            assert caught.value.ahead == ("go",)
            assert (etcd.revision, await names(late)) == (before, queue)
            assert managers[0].is_leader()


async def test_a_candidate_that_does_not_answer_stays_ahead_and_the_caller_receives_its_name(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """An older etcdleader: its name looks like ours, and a waiting one ignores the request."""
    async with queue_of(etcd, clock, 1) as (leader,):
        etcd.grant(77, 600)
        etcd.put(f"{ELECTION}/77", "old#0a1b2c3d", lease=77)
        late = make(etcd, clock, "late")
        async with late:
            await until(lambda: len(etcd.keys()) == 3)
            began_at = clock()
            with pytest.raises(HandOverError, match="old#0a1b2c3d") as caught:
                await leader.resign(to=late.identity)
            assert caught.value.ahead == ("old#0a1b2c3d",)
            assert clock() - began_at == pytest.approx(CONFIG.retry, abs=0.05)
            assert leader.is_leader()
            assert await names(late) == [leader.identity, "old#0a1b2c3d", late.identity]
            etcd.revoke(77)
            await leader.resign(to=late.identity)
            await late.wait_elected()


async def test_the_leaders_work_ends_before_the_named_one_leads(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with queue_of(etcd, clock, 3) as managers:
        leader, _, named = managers
        ended: list[str] = []

        async def use() -> None:
            with pytest.raises(LeadershipLostError):
                async with leader.leading():
                    try:
                        await anyio.sleep_forever()
                    finally:
                        with anyio.CancelScope(shield=True):
                            await anyio.sleep(1)
                        ended.append("leader")

        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await anyio.sleep(0.1)
            named.on_elected(lambda manager, term: ended.append("named"))
            await leader.resign(to=named.identity)
            await named.wait_elected()
            await until(lambda: len(ended) == 2)
        assert ended == ["leader", "named"]


async def test_a_hand_over_waits_for_a_step_of_the_leader(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The way is cleared meanwhile, and the leader still leads."""
    async with queue_of(etcd, clock, 3) as managers:
        leader, second, named = managers
        began = anyio.Event()

        async def hand_over() -> None:
            await began.wait()
            await leader.resign(to=named.identity)
            assert not leader.is_leader()

        async with anyio.create_task_group() as group:
            group.start_soon(hand_over)
            async with leader.step() as term:
                assert term is not None
                began.set()
                await anyio.sleep(2 * CONFIG.retry)
                assert await names(leader) == [one.identity for one in (leader, named, second)]
                assert term.is_valid()
                assert not named.is_leader()
        await named.wait_elected()


async def test_a_hand_over_from_the_leaders_own_work_does_not_wait_for_its_own_end(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    first, *others = managers = [make(etcd, clock, f"c{number}") for number in range(3)]
    left = []

    async def work(term: object) -> None:
        await until(lambda: len(etcd.keys()) == 3)
        try:
            await first.resign(to=others[1].identity)
            await anyio.sleep_forever()
        finally:
            left.append(first.term)

    async with anyio.create_task_group() as group:
        group.start_soon(first.run, work)
        await first.wait_elected()
        for manager in others:
            await group.start(manager.campaign)
        await others[1].wait_elected()
        assert left == [None]
        for manager in managers:
            await manager.stop()


async def test_a_request_to_a_candidate_that_has_just_won_is_a_request_to_step_down(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The leader dies while the candidates ahead make way. The one that was asked may lead by then."""
    async with queue_of(etcd, clock, 3) as managers:
        leader, second, third = managers

        def die(call: Call) -> None:
            compare = call.arguments[0] if call.kind == "txn" else ()
            if call.stage == "after" and any(one.key.endswith(key) for one in compare):
                etcd.hooks.remove(die)
                assert leader.term is not None
                etcd.revoke(leader.term.lease_id)

        key = (await second.candidates())[1].key.encode()
        etcd.hooks.append(die)
        with pytest.raises((LeadershipLostError, HandOverError)):
            await leader.resign(to=third.identity)
        await until(third.is_leader)
        await until(lambda: len(etcd.keys()) == 3)
        assert sum(one.is_leader() for one in managers) == 1


async def test_a_candidate_that_is_asked_as_it_wins_queues_again_and_begins_no_term(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The request and the end of the leader arrive together."""
    client = etcd.client("second")
    leader, second, third = make(etcd, clock, "a"), make(client, clock), make(etcd, clock, "c")
    async with anyio.create_task_group() as group:
        for manager in (leader, second, third):
            await group.start(manager.campaign)
        await leader.wait_elected()
        client.stall_watches()
        etcd.request_step_down((await leader.candidates())[1].key)
        await leader.stop()
        client.resume_watches()
        await third.wait_elected()
        await until(lambda: len(etcd.keys()) == 2)
        assert second.statistics().terms == 0
        await third.stop()
        await second.wait_elected()
        await second.stop()


async def test_an_etcd_that_does_not_answer_leaves_the_leader_as_it_is(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client("a")
    leader, named = make(client, clock), make(etcd, clock, "b")

    async def hand_over_without_etcd() -> None:
        client.lose_request("range")
        with pytest.raises(EtcdUnavailableError):
            await leader.resign(to=named.identity)
        assert leader.is_leader()

    async with leader:
        await leader.wait_elected()
        async with named:
            await until(lambda: len(etcd.keys()) == 2)
            await hand_over_without_etcd()


async def test_an_election_that_is_off_has_no_candidate_to_hand_over_to(clock: VirtualClock) -> None:
    async with NoopLeaderManager() as manager:
        await manager.wait_elected()
        with pytest.raises(HandOverError, match="off"):
            await manager.resign(to="a#00000000")
        assert manager.is_leader()


@pytest.mark.parametrize("moment", [number * 0.03 for number in range(25)])
async def test_a_move_of_the_next_in_line_and_a_request_meet_at_any_moment(
    etcd: FakeEtcd, clock: VirtualClock, moment: float
) -> None:
    """It leaves by whichever lease its key is on, and leaves no key behind."""
    managers = []
    for number in range(3):
        client = etcd.client(f"c{number}")
        client.latency = 0.05
        managers.append(make(client, clock))
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        leader, _, named = managers
        await leader.wait_elected()
        await anyio.sleep(1)
        etcd.change_leader()
        await until(lambda: any(moves), timeout=CONFIG.lease) if (moves := _record_moves(etcd)) else None
        await anyio.sleep(moment)
        for _ in range(5):
            try:
                await leader.resign(to=named.identity)
                break
            except HandOverError:  # with this latency, an answer may take longer than retry
                continue
        await named.wait_elected()
        await until(lambda: len(etcd.keys()) == 3)
        for manager in managers:
            await manager.stop()
    assert not etcd.keys()


def _record_moves(etcd: FakeEtcd) -> list[bytes]:
    moves: list[bytes] = [b""]
    moves.clear()
    etcd.hooks.append(lambda call: moves.extend(key for key, _ in moves_in(call)))
    return moves
