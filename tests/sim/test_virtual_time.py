"""Virtual time itself: it passes if all tasks wait, and only then."""

from __future__ import annotations

import time

import anyio
import pytest

from etcdleader.testing.virtual_time import VirtualClock

pytestmark = pytest.mark.anyio


def _be_slow() -> str:
    time.sleep(0.05)
    return "done"


async def test_ten_minutes_of_virtual_time_pass_at_once() -> None:
    """So tests can cover ten minutes."""
    started, real = anyio.current_time(), time.monotonic()
    await anyio.sleep(600)
    assert anyio.current_time() - started == pytest.approx(600)
    assert time.monotonic() - real < 60


async def test_the_loop_waits_for_a_thread_if_no_timer_is_set() -> None:
    """Virtual time must not make a loop spin, or end, while it waits for a thread only."""
    before = anyio.current_time()
    assert await anyio.to_thread.run_sync(_be_slow) == "done"
    assert anyio.current_time() == before


async def test_a_clock_can_be_set_independently_of_the_loop(clock: VirtualClock) -> None:
    """A suspended machine's boot time does this: the loop's clock stands still meanwhile."""
    assert clock() == anyio.current_time()
    clock.advance(60)
    await anyio.sleep(1)
    assert clock() - anyio.current_time() == pytest.approx(60)


async def test_a_clock_can_run_at_another_rate(clock: VirtualClock) -> None:
    """The clocks of two machines drift. A change of rate is no step."""
    started = clock()
    clock.rate = 1.5
    assert clock() == started
    await anyio.sleep(10)
    assert clock() - started == pytest.approx(15)


async def test_a_clock_may_be_read_from_a_thread(clock: VirtualClock) -> None:
    """`is_leader()` may be called from a thread, and reads the clock."""
    assert await anyio.to_thread.run_sync(clock) == clock()
