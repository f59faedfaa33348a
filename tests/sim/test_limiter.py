"""A FIFO limiter with a wait limit and a capacity that changes."""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel
import pytest

from etcdleader._runtime.limiter import FairLimiter

pytestmark = pytest.mark.anyio


async def settled() -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_callers_are_admitted_in_the_order_of_their_arrival(anyio_backend: object) -> None:
    limiter, gone = FairLimiter(2), []

    async def go(number: int) -> None:
        assert await limiter.acquire()
        gone.append(number)

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(go, number)
            await settled()
        assert gone == [0, 1]
        for count in range(3, 7):
            limiter.release(succeeded=True)
            await settled()
            assert gone == list(range(count))


@pytest.mark.parametrize("moment", ["before its turn", "in the moment of its turn"])
async def test_a_cancelled_waiter_does_not_block_the_others(anyio_backend: object, moment: str) -> None:
    limiter, gone = FairLimiter(1), []
    assert await limiter.acquire()

    async def go(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            assert await limiter.acquire()
            gone.append(name)

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()
        group.start_soon(go, "first", first)
        await settled()
        group.start_soon(go, "second", anyio.CancelScope())
        await settled()
        if moment == "before its turn":
            first.cancel()
            await settled()
            limiter.release(succeeded=True)
        else:
            first.cancel()
            limiter.release(succeeded=True)  # the limiter has not processed that yet
        await settled()
        assert gone == ["second"]
        limiter.release(succeeded=True)
    assert await limiter.acquire()


async def test_the_wait_limit_is_counted_from_the_last_progress(anyio_backend: object) -> None:
    limiter = FairLimiter(1)
    assert await limiter.acquire()
    begun = anyio.current_time()
    over: list[float] = []

    async def wait() -> None:
        assert not await limiter.acquire(2.0)
        over.append(anyio.current_time() - begun)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1.5)
        limiter.progress_at = anyio.current_time()
        await anyio.sleep(1.5)
        assert over == []
    assert over == [pytest.approx(3.5)]
    limiter.release()
    assert await limiter.acquire(0.0)


async def test_a_larger_capacity_wakes_as_many_waiters_as_it_admits_in_order(anyio_backend: object) -> None:
    limiter, gone = FairLimiter(0), []

    async def go(number: int) -> None:
        assert await limiter.acquire()
        gone.append(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(go, number)
            await settled()
        for capacity, expected in ((1, [0]), (3, [0, 1, 2]), (math.inf, [0, 1, 2, 3])):
            limiter.total_tokens = capacity
            await settled()
            assert sorted(gone) == expected


async def test_a_smaller_capacity_revokes_no_slot_and_admits_no_caller_before_one_is_free(
    anyio_backend: object,
) -> None:
    limiter = FairLimiter(3)
    for _ in range(3):
        assert limiter.try_acquire()
    limiter.total_tokens = 1
    assert limiter.available_tokens == -2
    for free in (False, False, True):
        limiter.release()
        assert limiter.try_acquire() is free
    assert limiter.borrowed_tokens == 1


async def test_a_token_that_is_on_its_way_to_a_waiter_is_not_given_to_another(anyio_backend: object) -> None:
    limiter = FairLimiter(1)
    assert limiter.try_acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire)
        await settled()
        assert limiter.waiting == 1
        limiter.release()
        assert limiter.waiting == 0
        assert not limiter.try_acquire()
    assert limiter.borrowed_tokens == 1


async def test_a_call_that_fails_releases_its_token_and_is_no_progress(anyio_backend: object) -> None:
    limiter = FairLimiter(1)

    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await limiter.run(fail)
    assert limiter.progress_at == -math.inf
    assert limiter.borrowed_tokens == 0
    await limiter.run(anyio.lowlevel.checkpoint)
    assert limiter.progress_at == anyio.current_time()
