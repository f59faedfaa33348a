"""Backend-specific primitives: scheduling from other threads, and system tasks without a parent."""

from __future__ import annotations

import contextvars
import functools
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from .events import running_trio

CallSoon = Callable[..., None]
"""The signature ``call_soon(function, *arguments)``."""

_tasks: set[object] = set()


def system_task_context() -> contextvars.Context:
    """Return the context for asyncio callbacks that belong to no task.

    In it, sniffio's variable names asyncio. Without that, anyio could not start a task from such a callback, such as
    the task of an ``on_error`` callback.
    """
    context = contextvars.Context()
    # The variable is missing while another thread imports sniffio. anyio does not use sniffio then.
    if (library := getattr(sys.modules.get("sniffio"), "current_async_library_cvar", None)) is not None:
        context.run(library.set, "asyncio")
    return context


def loop_scheduler() -> CallSoon:
    """Return a function by which any thread schedules a call on the running loop, without waiting for it.

    ``anyio.from_thread`` waits for the loop, so a busy loop would delay a gRPC thread. Calls after the loop's end are
    dropped.
    """
    return _call_soon(anyio.lowlevel.current_token())


def call_soon_on(loop: anyio.lowlevel.EventLoopToken, function: Callable[..., object], *arguments: object) -> None:
    """Schedule a call on another thread's loop. A call after the loop's end is dropped."""
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
    """Return whether the current task was cancelled, by an enclosing scope or by asyncio's ``Task.cancel()``."""
    if running_trio() is not None or anyio.current_effective_deadline() <= anyio.current_time():
        return True  # trio raises Cancelled in a cancelled scope only
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def spawn_system_task(function: Callable[[], Coroutine[Any, Any, None]], name: str, on_end: Callable[[], None]) -> None:
    """Run ``function`` in a task that belongs to the loop, not to the current task.

    ``on_end`` is called when the task has ended, even if the task was cancelled before it began.
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
    # The loop keeps only a weak reference to the task.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: on_end())


class ProtectedTaskGroup:
    """A task group with trio's protection against KeyboardInterrupt: Ctrl-C must only interrupt the user's code.

    trio protects its system tasks, but not their child tasks. anyio's task group wraps each task in a coroutine
    that cannot be protected. So on trio, the tasks start in the nursery directly.

    Attributes:
        user_tasks: The same task group without the protection, for users' callbacks.
    """

    __slots__ = ("_nursery", "_trio", "user_tasks")

    def __init__(self) -> None:
        self.user_tasks = anyio.create_task_group()
        self._trio = running_trio()
        self._nursery: Any = None
        if self._trio is not None:
            _protect(self._trio)

    @property
    def cancel_scope(self) -> anyio.CancelScope:
        return self.user_tasks.cancel_scope

    async def __aenter__(self) -> Self:
        await self.user_tasks.__aenter__()
        if self._trio is not None:
            self._nursery = self._trio.lowlevel.current_task().child_nurseries[-1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self.user_tasks.__aexit__(kind, error, traceback)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Start a protected task, as ``TaskGroup.start_soon`` does."""
        if self._nursery is None:
            self.user_tasks.start_soon(function, *arguments)
        else:
            self._nursery.start_soon(_run_protected, function, arguments, name=function)


@functools.cache
def _protect(trio: Any) -> None:
    """Enable the protection of these functions. trio keeps it for their code, so once is enough."""
    for function in (ProtectedTaskGroup.__aenter__, ProtectedTaskGroup.__aexit__, _run_protected):
        trio.lowlevel.enable_ki_protection(function)


async def _run_protected(function: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]) -> None:
    await function(*arguments)
