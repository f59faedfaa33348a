"""A function in a separate thread, on asyncio and trio."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import pytest

from etcdleader._runtime.threads import run_in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]
NAME = "a thread of this test"


async def until_it_ended() -> None:
    with anyio.fail_after(60):
        while any(thread.name == NAME for thread in threading.enumerate()):
            await anyio.sleep(0.001)


async def test_the_result_comes_from_another_thread_which_ends() -> None:
    assert await run_in_thread(threading.get_ident, NAME) != threading.get_ident()
    await until_it_ended()


async def test_an_exception_is_raised_where_the_result_is_awaited() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0, NAME)
    await until_it_ended()


async def test_a_caller_that_is_cancelled_does_not_wait_for_the_thread() -> None:
    go_on = threading.Event()
    with anyio.move_on_after(0.01) as scope:
        await run_in_thread(go_on.wait, NAME)
    assert scope.cancelled_caught
    go_on.set()
    await until_it_ended()


async def test_blocked_threads_of_the_application_hold_up_nothing() -> None:
    """anyio lets forty of them run at a time."""
    go_on = threading.Event()
    async with anyio.create_task_group() as group:
        for _ in range(45):
            group.start_soon(anyio.to_thread.run_sync, lambda: go_on.wait())  # noqa: PLW0108 - for mypy
        with anyio.fail_after(60):
            assert await run_in_thread(lambda: 5, NAME) == 5
        go_on.set()
