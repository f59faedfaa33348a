"""Run a blocking function in a thread: a new one that may be abandoned, or a worker thread that is joined."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from .events import Event
from .tasks import loop_scheduler

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T], name: str) -> T:
    """Run a function in a new thread and return its result. If the caller is cancelled, the thread is abandoned.

    ``anyio.to_thread`` keeps idle threads, which a forked child would lack. Its limit on threads is shared with the
    application.
    """
    call = _Call(function)
    threading.Thread(target=call.run, name=name, daemon=True).start()
    await call.over.wait()
    return call.result()


async def run_joined(function: Callable[[], T]) -> T:
    """Run a function in its own worker thread. It returns after the function has ended, even if it is cancelled.

    The thread has a copy of the context variables, and ``anyio.from_thread`` works in it. It does not count against
    anyio's default limit on threads.
    """
    await anyio.lowlevel.checkpoint()
    call = _Call(function)
    # Without the shield, trio would refuse the thread's calls of anyio.from_thread.run() after a cancellation.
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(call.run, limiter=anyio.CapacityLimiter(1))
        except anyio.get_cancelled_exc_class():
            # asyncio's Task.cancel() ignores shields, and the thread continues to run.
            await call.abandon_or_join()
            raise
    return call.result()


class _Call(Generic[T]):
    """A call of a function in another thread."""

    __slots__ = ("_abandoned", "_begun", "_call_soon", "_errors", "_function", "_lock", "_results", "over")

    def __init__(self, function: Callable[[], T]) -> None:
        self.over = Event()
        self._function = function
        self._call_soon = loop_scheduler()
        self._lock = threading.Lock()
        self._begun = self._abandoned = False
        self._results: list[T] = []
        self._errors: list[BaseException] = []

    def run(self) -> None:
        """Call the function, in the thread. Its result and its exception are those of the call."""
        with self._lock:
            if self._abandoned:
                return
            self._begun = True
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting task
            self._errors.append(error)
        self._call_soon(self.over.set)

    async def abandon_or_join(self) -> None:
        """Prevent the call. If it has begun, wait for its end instead, even if the wait is interrupted.

        Raises:
            BaseException: The exception of the function.
        """
        with self._lock:
            self._abandoned = not self._begun
        while self._begun and not self.over.is_set():
            try:
                await self.over.wait()
            except anyio.get_cancelled_exc_class():
                continue
        if self._errors:
            self.result()

    def result(self) -> T:
        """Return the result of the function, or raise its exception."""
        if self._errors:
            raise self._errors.pop()  # it is not kept: its traceback refers to this object
        return self._results[0]
