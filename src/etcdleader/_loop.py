"""What differs between event loops: coming back from a thread, and a task that belongs to nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio.lowlevel

__all__ = ("CallSoon", "call_soon_from_threads", "spawn")

CallSoon = Callable[..., None]
"""``call_soon(function, *arguments)``."""

_tasks: set[object] = set()


def call_soon_from_threads() -> CallSoon:
    """How any thread has the running loop call something soon, without waiting for it.

    Not ``anyio.from_thread``: that waits for the loop, which would let a busy loop hold up a gRPC thread. What comes
    after the loop's end is dropped.
    """
    native: Any = anyio.lowlevel.current_token().native_token
    run: Callable[..., Any] = (
        native.call_soon_threadsafe if hasattr(native, "call_soon_threadsafe") else native.run_sync_soon
    )

    def call_soon(function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):
            run(function, *arguments)

    return call_soon


def spawn(function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Run ``function`` in a task that belongs to the loop, not to the task that happens to ask first."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(function, name=name)
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(function(), name=name)
    # The loop itself keeps only a weak reference.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
