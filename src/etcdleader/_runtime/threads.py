"""Running a function that blocks, in a thread that ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .events import Event
from .tasks import loop_scheduler

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T], name: str) -> T:
    """Run a function in a thread of its own and return its result. A cancelled caller abandons the thread.

    ``anyio.to_thread`` keeps idle threads, which a fork would lack, and queues behind the application's own threads.
    """
    over = Event()
    results: list[T] = []
    errors: list[BaseException] = []
    call_soon = loop_scheduler()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised in the task that waits
            errors.append(error)
        call_soon(over.set)

    threading.Thread(target=run, name=name, daemon=True).start()
    await over.wait()
    if errors:
        raise errors[0]
    return results[0]
