"""Interrupt a move: by a hand-over, a freeze, or a step-down request that no watch delivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from etcdleader import LossReason
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import moves_in
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio

MOMENTS = ("grant before", "grant after", "move before", "move after")
LOST = 3 * CONFIG.lease
"""Seconds. A response that takes this long does not arrive."""


def at(etcd: FakeEtcd, client: str, moment: str, act: Callable[[Call], Awaitable[None]]) -> None:
    """Call ``act`` once at this moment of a move of this client: before or after etcd has applied a request."""
    step, stage = moment.split()

    async def hook(call: Call) -> None:
        of_a_move = call.kind == "lease_grant" if step == "grant" else bool(list(moves_in(call)))
        if of_a_move and call.client == client and call.stage == stage:
            etcd.hooks.remove(hook)
            await act(call)

    etcd.hooks.append(hook)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_hand_over_in_the_middle_of_a_move_has_one_leader_at_a_time(
    etcd: FakeEtcd, clock: VirtualClock, moment: str, lost: bool
) -> None:
    """The next in line moves at the same time."""
    first, second = etcd.client("first"), etcd.client("second")
    leader, candidate = make(first, clock), make(second, clock)
    reached = anyio.Event()
    together: list[bool] = []

    async def wait(call: Call) -> None:
        reached.set()
        await anyio.sleep(LOST if lost else 0.5)

    async with leader:
        term = await leader.wait_elected()
        async with candidate:
            await until(lambda: len(etcd.keys()) == 2)
            etcd.commit_hooks.append(lambda commit: together.append(leader.is_leader() and candidate.is_leader()))
            at(etcd, "first", moment, wait)
            etcd.change_leader()
            await reached.wait()
            await leader.resign()
            next_term = await candidate.wait_elected()
            assert term.loss_reason is LossReason.RESIGNED
            assert next_term.token > term.token
            await anyio.sleep(2 * CONFIG.lease)
            assert next_term.is_valid()
            assert len(etcd.keys()) == len(etcd.leases()) == 2
            assert together
            assert not any(together)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_freeze_past_the_deadline_in_the_middle_of_a_move_ends_the_term(
    etcd: FakeEtcd, clock: VirtualClock, moment: str
) -> None:
    async def freeze(call: Call) -> None:
        clock.advance(CONFIG.lease)

    client = etcd.client("frozen")
    async with leading(client, clock) as (manager, term):
        at(etcd, "frozen", moment, freeze)
        etcd.change_leader()
        await until(lambda: not term.is_valid(), timeout=CONFIG.lease)
        assert term.remaining() <= 0
        await until(lambda: term.loss_reason is LossReason.EXPIRED, timeout=1)
        again = await manager.wait_elected()
        assert again.token > term.token
        await anyio.sleep(2 * CONFIG.lease)
        assert again.is_valid()
        assert len(etcd.keys()) == len(etcd.leases()) == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_freeze_until_before_the_deadline_in_the_middle_of_a_move_ends_no_term(
    etcd: FakeEtcd, clock: VirtualClock, moment: str
) -> None:
    async def freeze(call: Call) -> None:
        clock.advance(CONFIG.lease / 4)

    client = etcd.client("frozen")
    async with leading(client, clock) as (_, term):
        lease_id = term.lease_id
        at(etcd, "frozen", moment, freeze)
        etcd.change_leader()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert term.lease_id != lease_id
        assert len(etcd.leases()) == 1


async def test_a_request_to_step_down_that_a_read_shows_together_with_the_move_is_not_lost(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The watch is silent and the move's response is lost. The key's version shows that another client put it, too."""
    client = etcd.client("leader")
    async with leading(client, clock) as (_, term):
        client.stall_watches()

        async def ask(call: Call) -> None:
            etcd.request_step_down(term.key)
            await anyio.sleep(LOST)

        at(etcd, "leader", "move after", ask)
        etcd.change_leader()
        await until(lambda: term.loss_reason is LossReason.RESIGNED, timeout=CONFIG.lease)
