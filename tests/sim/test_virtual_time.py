"""Virtual time itself: it passes when everybody waits, and only then."""

from __future__ import annotations

import time

import anyio
import pytest

from etcdleader.testing.virtual_time import VirtualClock

pytestmark = pytest.mark.anyio


def _be_slow() -> str:
    time.sleep(0.05)
    return "done"


async def test_ten_minutes_take_no_time() -> None:
    """Otherwise nobody would test what happens in ten minutes."""
    started, real = anyio.current_time(), time.monotonic()
    await anyio.sleep(600)
    assert anyio.current_time() - started == pytest.approx(600)
    assert time.monotonic() - real < 60


async def test_a_thread_is_waited_for_when_no_timer_is_set() -> None:
    """Virtual time must not make a loop spin, or end, because a thread is all there is to wait for."""
    before = anyio.current_time()
    assert await anyio.to_thread.run_sync(_be_slow) == "done"
    assert anyio.current_time() == before


async def test_a_clock_can_be_moved_apart_from_the_loop(clock: VirtualClock) -> None:
    """As a suspended machine's boot time is: its loop has slept through."""
    assert clock() == anyio.current_time()
    clock.advance(60)
    await anyio.sleep(1)
    assert clock() - anyio.current_time() == pytest.approx(60)


async def test_a_clock_can_run_at_a_rate_of_its_own(clock: VirtualClock) -> None:
    """Clocks of two machines drift; a change of rate is no step."""
    started = clock()
    clock.rate = 1.5
    assert clock() == started
    await anyio.sleep(10)
    assert clock() - started == pytest.approx(15)


async def test_a_clock_may_be_read_from_a_thread(clock: VirtualClock) -> None:
    """`is_leader()` may be, and reads it."""
    assert await anyio.to_thread.run_sync(clock) == clock()
