"""Run a blocking function in a new thread, outside any pool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .events import Event
from .tasks import loop_scheduler

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T], name: str) -> T:
    """Run a function in a new thread and return its result. If the caller is cancelled, the thread is abandoned.

    ``anyio.to_thread`` keeps idle threads, which a forked child would lack. Its limit on threads is shared with the
    application.
    """
    over = Event()
    results: list[T] = []
    errors: list[BaseException] = []
    call_soon = loop_scheduler()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting task
            errors.append(error)
        call_soon(over.set)

    threading.Thread(target=run, name=name, daemon=True).start()
    await over.wait()
    if errors:
        raise errors[0]
    return results[0]
