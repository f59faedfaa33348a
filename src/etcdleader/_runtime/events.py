"""An event that costs little, and which event loop runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Coroutine
from typing import Any

import anyio
import anyio.lowlevel


class Event:
    """An event for those of which there are many.

    On asyncio, one of anyio's takes a kilobyte, waited for or not. A campaign has half a dozen, and a process may have
    ten thousand campaigns.
    """

    # What waits for one is a single coroutine, and what it waits for is woken without a callable of its own: a candidate at
    # rest is a handful of them.
    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[Any, ...] = ()
        """Futures of asyncio's, events of trio's."""

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Wake whoever waits, now and from now on. On the event loop only."""
        self._is_set = True
        for waiter in self._waiters:
            _wake(waiter)

    def wait(self) -> Coroutine[Any, Any, None]:
        """Return when it was set."""
        return self._wait_on_asyncio(None) if (trio := running_trio()) is None else self._wait_on_trio(trio, math.inf)

    def wait_for(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Return when it was set, or after so many seconds, without a cancel scope on asyncio."""
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
            # One for each who waits: to cancel a task is to cancel the future that it waits for.
            waiter = loop.create_future()
            self._waiters = (*self._waiters, waiter)
            timer = None if deadline is None else loop.call_at(deadline, _wake, waiter)  # it may be a hair too early
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
    """The module, where its loop is the one that runs here; else None."""
    trio = sys.modules.get("trio")
    # While another thread imports it, the module is half made. Its loop does not run here then.
    in_trio_run = getattr(getattr(trio, "lowlevel", None), "in_trio_run", None)
    return trio if in_trio_run is not None and in_trio_run() else None
