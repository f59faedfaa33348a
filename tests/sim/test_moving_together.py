"""etcd elects another leader: the effects on waiting candidates, and on hundreds of leaders in one process."""

from __future__ import annotations

import anyio
import pytest

from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.crowd import leaders, tokens
from tests.sim.moving import Seen, moves_in
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


async def test_the_next_in_line_moves_too_and_candidates_behind_it_do_not(etcd: FakeEtcd, clock: VirtualClock) -> None:
    managers = [make(etcd, clock, name) for name in "abcd"]
    async with anyio.create_task_group() as group:
        for number, manager in enumerate(managers):
            await group.start(manager.campaign)
            await until(lambda: manager.statistics().queue_position == number)  # noqa: B023
        keys = list(etcd.keys())
        etcd.change_leader()
        await anyio.sleep(CONFIG.lease)
        assert [manager.statistics().lease_moves for manager in managers] == [1, 1, 0, 0]
        # They keep their places for as long as they wait.
        await anyio.sleep(5 * CONFIG.lease)
        assert [manager.statistics().queue_position for manager in managers] == [0, 1, 2, 3]
        assert list(etcd.keys()) == keys
        assert [manager.statistics().lease_moves for manager in managers] == [1, 1, 0, 0]
        group.cancel_scope.cancel()


async def test_a_candidate_on_an_untrusted_lease_that_becomes_next_in_line_moves_first_and_then_wins(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    first, second, third = (make(etcd, clock, name) for name in "abc")
    async with anyio.create_task_group() as group:
        for number, manager in enumerate((first, second, third)):
            await group.start(manager.campaign)
            await until(lambda: manager.statistics().queue_position == number)  # noqa: B023
        etcd.change_leader()
        await anyio.sleep(3 * CONFIG.lease)
        group.start_soon(second.stop)
        group.start_soon(first.stop)
        with anyio.fail_after(2):
            term = await third.wait_elected()
        assert third.statistics().lease_moves == 1
        assert term.lease_id == etcd.keys()[term.key.encode()].lease
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        group.cancel_scope.cancel()


async def test_the_move_itself_elects_a_candidate_whose_predecessor_is_gone(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Its watch is silent, and no renewal has read the predecessor yet."""
    client = etcd.client("b")
    first, second = make(etcd, clock, "a"), make(client, clock, "b")
    async with first:
        await first.wait_elected()
        async with second:
            await until(lambda: second.statistics().queue_position == 1)
            client.stall_watches()
            etcd.change_leader()
            leader = await first.leader()
            assert leader is not None

            def leave(call: Call) -> None:
                if call.client == "b" and call.stage == "before" and list(moves_in(call)):
                    etcd.hooks.remove(leave)
                    etcd.delete(leader.key)

            etcd.hooks.append(leave)
            await until(lambda: second.statistics().lease_moves == 1)
            before = client.calls["range"]
            with anyio.fail_after(0.1):
                await second.wait_elected()
            assert client.calls["range"] == before


async def test_leaders_of_one_connection_move_together(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """There is a grant for each, and one transaction for up to sixty-four."""
    client = etcd.client()
    seen = Seen(etcd)
    async with leaders(client, clock, 300) as managers:
        led, before = tokens(managers), client.calls.copy()
        etcd.change_leader()
        await anyio.sleep(CONFIG.lease)
        spent = client.calls - before
        assert tokens(managers) == led
        assert [manager.statistics().lease_moves for manager in managers] == [1] * 300
        assert spent["lease_grant"] == 300
        assert len(seen.moves) == 300
        assert seen.transactions <= 100
        await anyio.sleep(2 * CONFIG.lease)
        assert tokens(managers) == led


async def test_one_missing_key_prevents_no_other_move(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leaders(client, clock, 100) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        etcd.change_leader()
        client.stall_watches()
        etcd.delete(led[37].key)
        await anyio.sleep(CONFIG.lease)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == [37]
