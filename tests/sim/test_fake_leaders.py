"""The fake has an etcd leader among its members, which makes etcd's own mistakes."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from etcdleader._etcd.api import Put, Range
from etcdleader.errors import EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeMember

pytestmark = pytest.mark.anyio


def leader_of(etcd: FakeEtcd) -> FakeMember:
    leader = etcd.leader
    assert leader is not None
    return leader


async def test_the_last_member_leads_until_the_leader_changes() -> None:
    async with FakeEtcd(members=3) as etcd:
        first, second, third = etcd.members
        client = etcd.client()
        leaders = [etcd.leader]
        etcd.change_leader()
        leaders.append(etcd.leader)
        etcd.change_leader(second)
        leaders.append(etcd.leader)
        assert leaders == [third, first, second]
        assert (await client.member_status(timeout=1)).leader == second.member_id
        etcd.lose_leader()
        assert etcd.leader is None
        assert (await client.member_status(timeout=1)).leader == 0
        etcd.change_leader()
        assert etcd.raft_term == 5


async def test_an_unhealthy_member_is_not_elected() -> None:
    async with FakeEtcd(members=3) as etcd:
        first, second, third = etcd.members
        first.freeze()
        with pytest.raises(ValueError, match="cannot be elected"):
            etcd.change_leader(first)
        etcd.change_leader()
        assert etcd.leader is second
        third.kill()
        etcd.change_leader()
        assert etcd.leader is second, "no other member can lead"


async def test_a_hidden_member_leads_if_no_other_can(etcd: FakeEtcd) -> None:
    """Such a cluster continues for the clients of its only member once that member recovers."""
    etcd.members[0].freeze()
    etcd.change_leader()
    assert etcd.leader is None
    etcd.members[0].recover()
    assert (await etcd.client().txn([], [Put(b"k")], timeout=1)).header.raft_term == 3
    assert (await etcd.client().member_status(timeout=1)).leader not in (0, etcd.members[0].member_id)


@pytest.mark.parametrize("state", ["frozen", "killed"])
async def test_no_request_succeeds_while_the_leader_is_frozen_or_killed(state: str) -> None:
    """No lease expires either, until another leader is elected."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        leader = leader_of(etcd)
        etcd.grant(7, 2)
        if state == "frozen":
            leader.freeze()
        else:
            leader.kill()
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=5)
        with pytest.raises(EtcdUnavailableError):
            await client.lease_keep_alive([7], timeout=5)
        assert 7 in etcd.leases()
        etcd.change_leader()
        assert etcd.leader is etcd.members[0]
        await client.range(Range(b"k"), timeout=1)
        await anyio.sleep(3.6)
        assert not etcd.leases()


async def test_a_leader_that_was_killed_recovers_as_a_follower() -> None:
    async with FakeEtcd(members=3) as etcd:
        leader = leader_of(etcd)
        leader.kill()
        leader.recover()
        assert etcd.leader is etcd.members[0]
        leader_of(etcd).restart()
        assert etcd.leader is etcd.members[1]
        assert etcd.raft_term == 4


async def test_a_leader_that_wakes_up_without_an_election_still_leads_and_expires_due_leases() -> None:
    async with FakeEtcd(members=3) as etcd:
        leader = leader_of(etcd)
        etcd.grant(7, 2)
        etcd.grant(8, 60)
        leader.freeze()
        await anyio.sleep(10)
        leader.recover()
        await anyio.sleep(0.5)
        assert etcd.leader is leader
        assert list(etcd.leases()) == [8]
        assert etcd.raft_term == 2


async def test_a_leader_that_wakes_up_after_an_election_revokes_leases_that_its_successor_renewed() -> None:
    """It expired them in its own lessor, and proposes the revocations before it detects its successor (etcd#15247)."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        leader = leader_of(etcd)
        etcd.grant(7, 10)
        etcd.put("k", lease=7)
        leader.freeze()
        etcd.change_leader()
        etcd.grant(8, 10)
        for _ in range(5):
            await anyio.sleep(2.1)
            for answer in (await client.lease_keep_alive([7, 8], timeout=1)).values():
                assert (answer.ttl, answer.header.raft_term) == (10, 3)
        assert b"k" in etcd.keys()
        woken_at = anyio.current_time()
        leader.recover()
        await anyio.sleep(0.1)
        assert list(etcd.leases()) == [8], "it never knew the later lease"
        assert b"k" not in etcd.keys()
        assert 0 <= etcd.history[-1].time - woken_at <= 0.05
        assert etcd.leader is not leader
        etcd.put("k", lease=8)
        await anyio.sleep(3)
        assert b"k" in etcd.keys(), "it is a follower from now on"


async def test_a_lease_that_the_leader_renewed_before_it_froze_is_in_its_lessor_with_that_renewal() -> None:
    """So a woken leader revokes nothing before the TTL of a renewal in its own term is over."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        leader = leader_of(etcd)
        etcd.grant(7, 10)
        await anyio.sleep(5)
        await client.lease_keep_alive([7], timeout=1)
        leader.freeze()
        etcd.change_leader()
        await anyio.sleep(9.9)
        leader.recover()
        await anyio.sleep(1)
        assert 7 in etcd.leases()


async def test_a_lease_that_was_expired_but_not_yet_revoked_is_revoked_although_the_successor_saved_it() -> None:
    """The list of revocations outlives the leadership."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        await anyio.sleep(0.2)
        leader = leader_of(etcd)
        etcd.grant(7, 2)
        await anyio.sleep(2.1)
        leader.freeze()
        etcd.change_leader()
        assert (await client.lease_keep_alive([7], timeout=1))[7].ttl == 2
        await anyio.sleep(0.1)
        leader.recover()
        await anyio.sleep(0.1)
        assert not etcd.leases()


async def test_a_deposed_leader_revokes_by_its_lessor_when_it_recovers_except_for_what_it_renewed_itself() -> None:
    async with FakeEtcd(members=2) as etcd:
        old, new = (etcd.client(endpoints=[member]) for member in etcd.members)
        for lease_id in (7, 8):
            etcd.grant(lease_id, 5)
        etcd.members[0].depose()
        for _ in range(2):
            await anyio.sleep(3)
            await new.lease_keep_alive([7, 8], timeout=1)
            await old.lease_keep_alive([8], timeout=1)
        etcd.members[0].recover()
        await anyio.sleep(0.1)
        assert list(etcd.leases()) == [8]


async def test_a_stale_leader_reports_a_lease_as_gone_that_was_granted_after_it() -> None:
    """A TTL of 0 proves nothing by itself."""
    async with FakeEtcd(members=2) as etcd:
        old, new = (etcd.client(endpoints=[member]) for member in etcd.members)
        etcd.members[0].depose()
        etcd.grant(7, 10)
        answer = (await old.lease_keep_alive([7], timeout=1))[7]
        assert (answer.ttl, answer.header.raft_term) == (0, 2)
        assert (await old.lease_time_to_live(7, timeout=1)).ttl == -1
        assert (await new.lease_keep_alive([7], timeout=1))[7].ttl == 10


async def test_revocations_of_a_woken_leader_wait_for_a_leader_and_are_spread_by_the_seed() -> None:
    async def moments(seed: int, elect: Callable[[FakeEtcd], None], pause: float) -> list[float]:
        """Return the seconds from the wake-up to each revocation."""
        async with FakeEtcd(members=2, seed=seed) as etcd:
            leader = leader_of(etcd)
            for lease_id in range(1, 4):
                etcd.grant(lease_id, 2)
                etcd.put(f"k/{lease_id}", lease=lease_id)
            leader.freeze()
            elect(etcd)
            await anyio.sleep(2.5)
            woken_at = anyio.current_time()
            leader.recover()
            await anyio.sleep(pause)
            if etcd.leases():
                etcd.change_leader()
                await anyio.sleep(0.01)
            assert not etcd.leases()
            return [round(commit.time - woken_at, 9) for commit in etcd.history[-3:]]

    async def spread(seed: int) -> list[float]:
        return await moments(seed, FakeEtcd.change_leader, 0.1)

    assert await moments(1, FakeEtcd.lose_leader, 1) == await moments(2, FakeEtcd.lose_leader, 1) == [1, 1, 1]
    assert await spread(1) == await spread(1) != await spread(2)
    assert len(set(await spread(1))) == 3


async def test_a_leader_that_was_killed_has_no_stale_lessor_left() -> None:
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client()
        leader = leader_of(etcd)
        etcd.grant(7, 2)
        leader.freeze()
        etcd.change_leader()
        leader.kill()
        await anyio.sleep(2.5)
        await client.lease_keep_alive([7], timeout=1)
        leader.recover()
        await anyio.sleep(1)
        assert 7 in etcd.leases()


async def test_revocations_by_a_stale_lessor_do_not_reach_a_restored_backup() -> None:
    async with FakeEtcd(members=2) as etcd:
        leader = leader_of(etcd)
        etcd.grant(7, 2)
        backup = etcd.snapshot()
        leader.freeze()
        etcd.change_leader()
        await anyio.sleep(2.5)
        leader.recover()
        etcd.restore(backup)
        await anyio.sleep(1)
        assert 7 in etcd.leases()


async def test_the_revocations_of_a_woken_leader_can_be_switched_off() -> None:
    """etcd 3.5.13 to 3.5.15 behave like this."""
    async with FakeEtcd(members=2) as etcd:
        leader = leader_of(etcd)
        etcd.woken_leaders_revoke = False
        etcd.grant(7, 2)
        leader.freeze()
        etcd.change_leader()
        await anyio.sleep(2.5)
        leader.recover()
        await anyio.sleep(0.1)
        assert 7 in etcd.leases()


async def test_a_renewal_lasts_when_the_leader_applies_its_committed_entries(etcd: FakeEtcd) -> None:
    client = etcd.client()
    await client.lease_grant(10, 7, timeout=1)
    etcd.apply_no_more()
    await anyio.sleep(5)
    assert (await client.lease_keep_alive([7], timeout=1))[7].ttl == 10
    etcd.apply()
    assert etcd.leases() == {7: 10}
