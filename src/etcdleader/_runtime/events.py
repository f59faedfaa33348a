"""An event that needs little memory, and the detection of a running trio loop."""

from __future__ import annotations

import math
import sys
from collections.abc import Coroutine
from typing import Any

import anyio
import anyio.lowlevel


class Event:
    """An event that needs little memory, for use in large numbers.

    On asyncio, anyio's event takes a kilobyte, even if no task waits for it. A campaign has half a dozen events, and a
    process may have ten thousand campaigns.
    """

    # A wait is a single coroutine, and its waiter is woken without an additional callable. An idle candidate consists
    # mostly of such waits.
    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[Any, ...] = ()
        """asyncio's futures, or trio's events."""

    def is_set(self) -> bool:
        """Return whether the event was set."""
        return self._is_set

    def set(self) -> None:
        """Set the event: wake all waiting tasks, and let later waits return at once. Call it on the event loop only."""
        self._is_set = True
        for waiter in self._waiters:
            _wake(waiter)

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait until the event is set."""
        return self._wait_on_asyncio(None) if (trio := running_trio()) is None else self._wait_on_trio(trio, math.inf)

    def wait_for(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Wait until the event is set, for at most ``timeout`` seconds. On asyncio, no cancel scope is used."""
        if (trio := running_trio()) is not None:
            return self._wait_on_trio(trio, timeout)
        return self._wait_on_asyncio(timeout)

    async def _wait_on_trio(self, trio: Any, timeout: float) -> None:
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        waiter = trio.Event()
        self._waiters = (*self._waiters, waiter)
        try:
            with trio.move_on_after(timeout):
                await waiter.wait()
        finally:
            self._forget(waiter)

    async def _wait_on_asyncio(self, timeout: float | None) -> None:
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self.is_set() and (deadline is None or loop.time() < deadline):
            # One future for each wait: cancelling a task cancels the future that it waits for.
            waiter = loop.create_future()
            self._waiters = (*self._waiters, waiter)
            timer = None if deadline is None else loop.call_at(deadline, _wake, waiter)  # it may fire slightly early
            try:
                await waiter
            finally:
                self._forget(waiter)
                if timer is not None:
                    timer.cancel()

    def _forget(self, waiter: Any) -> None:
        waiters = self._waiters
        self._waiters = () if len(waiters) == 1 else tuple([other for other in waiters if other is not waiter])


def _wake(waiter: Any) -> None:
    if hasattr(waiter, "set_result"):
        if not waiter.done():
            waiter.set_result(None)
    else:
        waiter.set()


def running_trio() -> Any:
    """Return the module ``trio`` if its loop runs in this thread, else None."""
    trio = sys.modules.get("trio")
    # While another thread imports trio, the module is incomplete. Its loop does not run here then.
    in_trio_run = getattr(getattr(trio, "lowlevel", None), "in_trio_run", None)
    return trio if in_trio_run is not None and in_trio_run() else None


def is_loop_thread() -> bool:
    """Return whether an event loop runs in this thread, so that a blocking call would stop it."""
    if running_trio() is not None:
        return True
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except (AttributeError, RuntimeError):  # no loop, or another thread imports asyncio just now
        return False
