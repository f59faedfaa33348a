"""etcd's former leaders wake up and revoke live leases, and members report old raft terms (rules 3 and 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
import pytest

from etcdleader import EtcdUnavailableError
from etcdleader._etcd.api import KeepAliveResponses
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.calls import is_proposal
from tests.sim.crowd import leaders, tokens
from tests.sim.moving import Seen, moved, moves_in
from tests.sim.world import CONFIG, ELECTION, leading, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin


@pytest.mark.parametrize("watches", ["working", "silent"])
async def test_a_former_leader_of_etcd_that_wakes_up_ends_no_leadership(clock: VirtualClock, watches: str) -> None:
    """It revokes leases that have expired in its stale lessor. Its successor has renewed them for long."""
    async with FakeEtcd(members=3) as etcd:
        client, behind = etcd.client(), etcd.client("behind")
        async with leaders(client, clock, 30) as managers, leaders_to_be(behind, clock, 30):
            led = tokens(managers)
            for _ in range(4):
                if watches == "silent":
                    client.stall_watches()
                    behind.stall_watches()
                former = etcd.leader
                assert former is not None
                former.freeze()
                await anyio.sleep(1)
                etcd.change_leader()
                await anyio.sleep(1.5 * CONFIG.lease)
                former.recover()
                await anyio.sleep(0.5)
                client.resume_watches()
                behind.resume_watches()
                await anyio.sleep(CONFIG.lease)
                assert tokens(managers) == led


def leaders_to_be(client: object, clock: VirtualClock, many: int) -> Crowd:
    return Crowd([make(client, clock, "b", election=f"election-{number}") for number in range(many)])  # type: ignore[arg-type]


class Crowd:
    """Candidates that wait behind others."""

    def __init__(self, managers: Sequence[object]) -> None:
        self.managers = managers
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> None:
        await self._group.__aenter__()
        for manager in self.managers:
            self._group.start_soon(manager.campaign)  # type: ignore[attr-defined]

    async def __aexit__(self, *_: object) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)


async def test_leases_whose_keys_have_not_moved_are_revoked(clock: VirtualClock) -> None:
    """Candidates far back lose their places, which shows that the schedule is effective."""
    async with FakeEtcd(members=3) as etcd:
        managers = [make(etcd, clock, name) for name in "abcd"]
        async with anyio.create_task_group() as group:
            for number, manager in enumerate(managers):
                await group.start(manager.campaign)
                await until(lambda: manager.statistics().queue_position == number)  # noqa: B023
            before = [key for key in etcd.keys() if key.startswith(f"{ELECTION}/".encode())]
            former = etcd.leader
            assert former is not None
            former.freeze()
            etcd.change_leader()
            await anyio.sleep(1.5 * CONFIG.lease)
            former.recover()
            await anyio.sleep(0.5)
            assert [key in etcd.keys() for key in before] == [True, True, False, False]
            group.cancel_scope.cancel()


async def test_a_follower_that_caught_up_by_a_snapshot_confirms_nothing_under_its_old_raft_term(
    clock: VirtualClock,
) -> None:
    """It answers keep-alives and reads with the old term until it has applied an entry and adopted the entry's term."""
    async with FakeEtcd(members=5) as etcd:
        follower = etcd.members[0]
        follower.answers_early = True
        client = etcd.client(endpoints=[follower])
        # A move takes time, so that the former leader would wake up before it.
        client.uniform = lambda low, high: high
        async with leading(client, clock) as (manager, term):
            client.stall_watches()
            former = etcd.leader
            assert former is not None
            former.freeze()
            client.fail("lease_keep_alive", EtcdUnavailableError("not now"), times=math.inf)
            await anyio.sleep(TRUSTED - 0.1)
            follower.lag()
            etcd.change_leader()
            follower.recover(by_snapshot=True)
            assert follower.raft_term < etcd.raft_term
            client.clear_faults()
            await manager.extend(term)
            await anyio.sleep(CONFIG.lease + 0.02 - clock())
            former.recover()
            await anyio.sleep(0.06)
            assert term.key.encode() in etcd.keys()
            assert term.is_valid()


async def test_a_read_that_another_member_answers_confirms_nothing(clock: VirtualClock) -> None:
    """That member need not have applied an entry of the term in force."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()

        def switch(call: Call) -> None:
            if is_proposal(call) and call.stage == "after":
                client.report_endpoint_failure(client.endpoint_number)

        async with leading(client, clock) as (manager, term):
            etcd.hooks.append(switch)
            await until(lambda: not term.is_valid())
            assert clock() <= TRUSTED + 0.01
            assert manager.statistics().renewals == 0
            etcd.hooks.remove(switch)


async def test_a_switch_of_the_endpoint_within_a_round_is_no_failure(clock: VirtualClock) -> None:
    """A member that announces its end answers the proposal, and another one the read. The round is repeated there."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        switched: list[float] = []

        def switch(call: Call) -> None:
            if is_proposal(call) and call.stage == "after" and not switched:
                switched.append(clock())
                client.report_endpoint_failure(client.endpoint_number)

        async with leading(client, clock) as (manager, term):
            etcd.hooks.append(switch)
            await until(lambda: manager.statistics().renewals)
            assert clock() - switched[0] < 0.1
            endpoint = client.endpoint_number
            await anyio.sleep(CONFIG.lease)
            assert client.endpoint_number == endpoint
            assert manager.statistics().renewal_failures == 0
            assert term.is_valid()


async def test_a_ttl_of_zero_that_the_read_contradicts_ends_no_term(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A former leader of etcd reports it for a lease of which it has no record."""
    client = etcd.client()
    send = client.lease_keep_alive
    calls = 0

    async def keep_alive(lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        nonlocal calls
        calls += 1
        answers = await send(lease_ids, timeout=timeout)
        if calls > 1:
            return answers
        return KeepAliveResponses({lease: answer._replace(ttl=0) for lease, answer in answers.items()})

    monkeypatch.setattr(client, "lease_keep_alive", keep_alive)
    async with leading(client, clock) as (manager, term):
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert manager.statistics().renewal_failures == 1


async def test_a_leader_leads_by_the_lease_to_which_its_key_has_moved(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):
        await anyio.sleep(CONFIG.renew - 0.1)
        await moved(etcd, term)
        assert term.remaining() == pytest.approx(TRUSTED, abs=0.1)


async def test_a_move_that_a_renewal_finds_done_is_not_sent_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It would put the key again, which is a request to step down."""
    client = etcd.client()
    seen = Seen(etcd)
    held = anyio.Event()

    async def hold_back(call: Call) -> None:
        if call.stage == "after" and not held.is_set() and list(moves_in(call)):
            held.set()
            await anyio.sleep_forever()

    etcd.hooks.append(hold_back)
    async with leading(client, clock) as (manager, term):
        client.stall_watches()
        etcd.change_leader()
        await held.wait()
        await manager.extend(term)
        assert manager.statistics().lease_moves == 1
        await anyio.sleep(5)
        client.resume_watches()
        await anyio.sleep(5)
        assert len(seen.moves) == 1
        assert term.is_valid()
