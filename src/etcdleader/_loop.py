"""What differs between event loops: coming back from a thread, a task that belongs to nobody, and what an event costs."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel

__all__ = ("CallSoon", "LazyEvent", "call_soon_from_threads", "protected", "spawn")

CallSoon = Callable[..., None]
"""``call_soon(function, *arguments)``."""

_tasks: set[object] = set()


class LazyEvent:
    """An event that costs next to nothing until somebody waits for it.

    On asyncio, one of anyio's takes a kilobyte. A campaign has half a dozen, of which two are waited for while nothing
    happens, and a process may have ten thousand campaigns.
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Wake whoever waits, now and from now on."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Return when it was set."""
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


def call_soon_from_threads() -> CallSoon:
    """How any thread has the running loop call something soon, without waiting for it.

    Not ``anyio.from_thread``: that waits for the loop, which would let a busy loop hold up a gRPC thread. What comes
    after the loop's end is dropped.
    """
    native: Any = anyio.lowlevel.current_token().native_token
    options: dict[str, Any] = {}
    if hasattr(native, "call_soon_threadsafe"):
        run: Callable[..., Any] = native.call_soon_threadsafe
        # A callback of asyncio's runs in no task, and by its task sniffio knows the loop: without this, anyio could
        # start no task from there, such as one for an `on_error` callback.
        options["context"] = context = contextvars.Context()
        if (sniffio := sys.modules.get("sniffio")) is not None:
            context.run(sniffio.current_async_library_cvar.set, "asyncio")
    else:
        run = native.run_sync_soon

    def call_soon(function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):
            run(function, *arguments, **options)

    return call_soon


def spawn(function: Callable[[], Coroutine[Any, Any, None]], name: str, on_end: Callable[[], None]) -> None:
    """Run ``function`` in a task that belongs to the loop, not to the task that happens to ask first.

    ``on_end`` is called when the task has ended, also when it was cancelled before it began.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():

        async def run() -> None:
            try:
                await function()
            finally:
                on_end()

        trio.lowlevel.spawn_system_task(run, name=name)
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(function(), name=name)
    # The loop itself keeps only a weak reference.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: on_end())


def protected(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """``function``, in which trio raises no KeyboardInterrupt: Ctrl-C is for the user's own code.

    trio protects its system tasks so, but not the tasks that these start.
    """
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_run():
        return function

    async def run(*arguments: Any) -> None:
        await function(*arguments)

    guarded: Callable[..., Coroutine[Any, Any, None]] = trio.lowlevel.enable_ki_protection(run)
    return guarded
