"""Several hand-overs of one term at once: the first one that succeeds counts."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import EtcdLeaderError, EtcdLeaderManager, HandOverError, LeadershipLostError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.handing_over import names, queue_of
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


async def hand_over_to_each(leader: EtcdLeaderManager, *named: EtcdLeaderManager) -> list[EtcdLeaderError | None]:
    """Hand over to each at the same time. Return the errors of the calls, in the order of the calls."""
    errors: dict[int, EtcdLeaderError | None] = {}

    async def hand_over(number: int) -> None:
        errors[number] = None
        try:
            await leader.resign(to=named[number].identity)
        except EtcdLeaderError as error:
            errors[number] = error

    async with anyio.create_task_group() as group:
        for number in range(len(named)):
            group.start_soon(hand_over, number)
            await until(lambda: len(errors) == number + 1)  # noqa: B023
    return list(errors.values())


@pytest.mark.parametrize("first", [1, 3, 4])
@pytest.mark.parametrize("second", [1, 2, 4])
async def test_of_two_hand_overs_at_once_the_first_one_counts(
    etcd: FakeEtcd, clock: VirtualClock, first: int, second: int
) -> None:
    async with queue_of(etcd, clock, 5, latency=0.02) as managers:
        leader = managers[0]
        term = leader.term
        errors = await hand_over_to_each(leader, managers[first], managers[second])
        assert (await names(leader))[0] == managers[first].identity
        assert errors[0] is None
        if first == second:
            assert errors[1] is None
        else:
            assert isinstance(errors[1], LeadershipLostError)
            assert errors[1].term is term
            assert "RESIGNED" in str(errors[1])
        await managers[first].wait_elected()


async def test_a_second_hand_over_while_a_step_delays_the_first_one_is_refused(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The leader still leads, and the way of the first named one stays clear."""
    async with queue_of(etcd, clock, 4) as managers:
        leader, _, first, second = managers
        async with anyio.create_task_group() as group:
            async with leader.step():
                group.start_soon(hand_over_to_each, leader, first)
                await anyio.sleep(CONFIG.retry)
                with pytest.raises(HandOverError, match=first.identity) as caught:
                    await leader.resign(to=second.identity)
                assert caught.value.ahead == ()
                assert leader.is_leader()
            await first.wait_elected()


async def test_a_second_hand_over_is_tried_if_the_first_one_fails(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with queue_of(etcd, clock, 3) as managers:
        leader, _, named = managers
        unknown = make(etcd, clock, "not in the queue")
        errors = await hand_over_to_each(leader, unknown, named)
        assert isinstance(errors[0], HandOverError)
        assert errors[1] is None
        await named.wait_elected()
