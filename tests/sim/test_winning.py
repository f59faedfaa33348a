"""Check how a candidate is elected, and how many requests that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdLeaderManager
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from tests.sim.world import ELECTION, make, until

pytestmark = pytest.mark.anyio


async def test_a_lone_candidate_leads_after_a_grant_and_a_transaction(
    etcd: FakeEtcd, clock: Callable[[], float]
) -> None:
    """The transaction that puts the key also reads the queue, so there is no third request."""
    manager = make(etcd, clock)
    async with manager:
        await manager.wait_elected()
        assert (etcd.calls["lease_grant"], etcd.calls["txn"], etcd.calls["range"]) == (1, 1, 0)


async def queue_up(etcd: FakeEtcd, clock: Callable[[], float], count: int) -> list[EtcdLeaderManager]:
    return [make(etcd, clock, f"candidate {number}") for number in range(count)]


async def test_the_next_in_line_wins_by_the_event_with_no_further_read(
    etcd: FakeEtcd, clock: Callable[[], float]
) -> None:
    first, second = await queue_up(etcd, clock, 2)
    async with first:
        await first.wait_elected()
        async with second:
            await until(lambda: len(etcd.keys()) == 2)
            await anyio.sleep(0.5)  # its watch exists
            before = Counter(etcd.calls)
            await first.stop()
            term = await second.wait_elected()
            assert Counter(etcd.calls) - before == Counter({"lease_revoke": 1})
            assert term.token == etcd.keys()[term.key.encode()].create_revision


async def test_candidates_lead_in_the_order_in_which_they_joined(etcd: FakeEtcd, clock: Callable[[], float]) -> None:
    managers = await queue_up(etcd, clock, 5)
    tokens: list[int] = []
    order: list[str] = []

    async def stand(manager: EtcdLeaderManager) -> None:
        async def work(term: object) -> None:
            order.append(manager.identity)
            term_now = manager.term
            assert term_now is not None
            tokens.append(term_now.token)
            await anyio.sleep(1)

        await manager.run(work)

    async with anyio.create_task_group() as group:
        for number, manager in enumerate(managers):
            group.start_soon(stand, manager)
            await until(lambda: len(etcd.keys()) == number + 1)  # noqa: B023 - awaited in this iteration
    assert order == [manager.identity for manager in managers]
    assert tokens == sorted(tokens)


async def test_one_deletion_wakes_one_candidate(etcd: FakeEtcd, clock: Callable[[], float]) -> None:
    """Candidates from the third on watch their predecessor and their own key, so that not all of them read."""
    managers = await queue_up(etcd, clock, 6)
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await anyio.sleep(0.5)
        before = Counter(etcd.calls)
        await managers[3].stop()
        await anyio.sleep(0.5)
        # The candidate behind it reads its position now. No other candidate does.
        spent = Counter(etcd.calls) - before
        assert spent["range"] == 1
        assert spent["txn"] == 0
        group.cancel_scope.cancel()


async def test_a_candidate_that_waits_watches_itself_first_and_then_its_predecessor(
    etcd: FakeEtcd, clock: Callable[[], float]
) -> None:
    """The order is fixed. The order of a set differs between processes, and no seed would repeat the same schedule."""
    managers = await queue_up(etcd, clock, 12)
    watched: dict[str, list[bytes]] = {}

    def see(call: Call) -> None:
        if call.kind == "watch" and call.stage == "before":
            watched.setdefault(call.client, []).append(call.arguments[0])

    etcd.hooks.append(see)
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        await anyio.sleep(0.5)
        keys = list(etcd.keys())
        waiting = {f"candidate {number}": [keys[number], keys[number - 1]] for number in range(2, len(managers))}
        assert {client: watched[client] for client in waiting} == waiting
        group.cancel_scope.cancel()


async def test_a_candidate_that_joined_while_the_leader_left_leads_at_once(
    etcd: FakeEtcd, clock: Callable[[], float]
) -> None:
    """Its watch is late, and the leader's DELETE came before it. The watch's revision shows the gap."""
    first, second = await queue_up(etcd, clock, 2)
    async with first:
        leader = await first.wait_elected()

        async def revoke_before_the_watch(call: Call) -> None:
            if call.kind == "watch" and call.stage == "before" and call.client == "candidate 1":
                etcd.hooks.clear()
                await until(lambda: len(etcd.keys()) == 2)
                await anyio.sleep(0.1)
                etcd.delete(leader.key)

        etcd.hooks.append(revoke_before_the_watch)
        async with second:
            with anyio.fail_after(2):
                assert (await second.wait_elected()).token > leader.token
            assert not etcd.hooks
            # The first one joins again, behind it.
            assert first.term is not leader


async def test_a_foreign_key_without_a_lease_blocks_the_queue_like_in_go(
    etcd: FakeEtcd, clock: Callable[[], float]
) -> None:
    """Every key under the prefix counts, and no foreign key is ever deleted."""
    etcd.put(f"{ELECTION}/by-hand", "somebody")
    manager = make(etcd, clock)
    async with manager:
        await until(lambda: len(etcd.keys()) == 2)
        await anyio.sleep(100)
        assert not manager.is_leader()
        etcd.delete(f"{ELECTION}/by-hand")
        with anyio.fail_after(1):
            await manager.wait_elected()
