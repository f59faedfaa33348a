"""What differs between event loops: coming back from a thread, and a task that belongs to nobody."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel

from .events import running_trio

CallSoon = Callable[..., None]
"""``call_soon(function, *arguments)``."""

_tasks: set[object] = set()


def system_task_context() -> contextvars.Context:
    """Where asyncio's callbacks run that are no task's.

    By its task sniffio knows the loop: without this, anyio could start no task from there, such as one for an ``on_error``
    callback.
    """
    context = contextvars.Context()
    # None while another thread imports it: anyio has not found it then, and does not ask it.
    if (library := getattr(sys.modules.get("sniffio"), "current_async_library_cvar", None)) is not None:
        context.run(library.set, "asyncio")
    return context


def loop_scheduler() -> CallSoon:
    """How any thread has the running loop call something soon, without waiting for it.

    Not ``anyio.from_thread``: that waits for the loop, which would let a busy loop hold up a gRPC thread. What comes
    after the loop's end is dropped.
    """
    return _call_soon(anyio.lowlevel.current_token())


def call_soon_on(loop: anyio.lowlevel.EventLoopToken, function: Callable[..., object], *arguments: object) -> None:
    """Have the loop of another thread call something soon. What comes after the loop's end is dropped."""
    _call_soon(loop)(function, *arguments)


def _call_soon(loop: anyio.lowlevel.EventLoopToken) -> CallSoon:
    native: Any = loop.native_token
    options: dict[str, Any] = {}
    if hasattr(native, "call_soon_threadsafe"):
        run: Callable[..., Any] = native.call_soon_threadsafe
        options["context"] = system_task_context()
    else:
        run = native.run_sync_soon

    def call_soon(function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):
            run(function, *arguments, **options)

    return call_soon


def cancellation_requested() -> bool:
    """Return whether the running task was asked to end, by a scope around it or by asyncio's ``Task.cancel()``."""
    if running_trio() is not None or anyio.current_effective_deadline() <= anyio.current_time():
        return True  # trio raises Cancelled in a cancelled scope only
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def spawn_system_task(function: Callable[[], Coroutine[Any, Any, None]], name: str, on_end: Callable[[], None]) -> None:
    """Run ``function`` in a task that belongs to the loop, not to the task that happens to ask first.

    ``on_end`` is called when the task has ended, also when it was cancelled before it began.
    """
    if (trio := running_trio()) is not None:

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


def ki_protected(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """``function``, in which trio raises no KeyboardInterrupt: Ctrl-C is for the user's own code.

    trio protects its system tasks so, but not the tasks that these start.
    """
    trio = running_trio()
    if trio is None:
        return function

    async def run(*arguments: Any) -> None:
        await function(*arguments)

    guarded: Callable[..., Coroutine[Any, Any, None]] = trio.lowlevel.enable_ki_protection(run)
    return guarded
