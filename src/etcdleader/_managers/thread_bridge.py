"""Let a thread and the event loop serve each other: a call of work, a block that is held, the newest of several values."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import anyio

from .._runtime.background_loop import SIGNAL_CHECK_SECONDS, background_loop, refuse_event_loop, result_of, wait_for
from .._runtime.fork import process_id
from .._runtime.tasks import loop_scheduler
from ..model import Term
from .reentrancy import on_same_behalf
from .work import result_of_plain

T = TypeVar("T")


class WorkCall:
    """One call of the work, which the loop requests and the user's thread makes.

    Attributes:
        completed: False until the work has returned or raised an error. Work that was skipped or interrupted, for example
            by Ctrl-C, must not count as done.
    """

    def __init__(self, term: Term) -> None:
        self.ended = anyio.Event()
        self.completed = False
        self.result: Any = None
        self.error: Exception | None = None
        self._term = term
        self._context = contextvars.copy_context()
        self._call_soon = loop_scheduler()
        self._process = process_id()

    def skip(self) -> None:
        """End the call without calling the work."""
        self._call_soon(self.ended.set)

    def run(self, work: Callable[[Term], Any]) -> BaseException | None:
        """Call the work. Return what interrupted it, such as KeyboardInterrupt. Other errors are the campaign's."""
        try:
            with on_same_behalf(self._context):
                self.result = result_of_plain(work(self._term), refuse_awaitable=True)
            self.completed = True
        except Exception as error:  # noqa: BLE001 - it is raised in the campaign, and by that in the caller
            self.error, self.completed = error, True
        except BaseException as interruption:  # noqa: BLE001 - raised by the caller, once leadership was released
            return interruption
        finally:
            if self._process == process_id():  # a forked child has no such loop
                self.skip()
        return None


class HeldBlock(Generic[T]):
    """An async block that a task on the loop enters and leaves, in the place of a block of a thread.

    Attributes:
        context: The context in which the async block runs.
        entered: Set to the value of the async block when it was entered. If it is cancelled, the task enters nothing.
    """

    context: contextvars.Context

    def __init__(self, block: AbstractAsyncContextManager[T, Any], end: Callable[[], None], *, joined: bool) -> None:
        """Enter nothing yet.

        Args:
            block: The async block.
            end: Ends the block if the main thread ends before the thread has left it.
            joined: Whether the end of the async block waits for the thread, even if it is cancelled.
        """
        self._block = block
        self._end = end
        self._joined = joined
        self._error: Exception | None = None
        self.entered: Future[T] = Future()
        self._future: Future[None] | None = None
        self._left: anyio.Event | None = None
        self._forget: Callable[[], None] | None = None
        self._uses_loop = False
        self._process = process_id()

    def enter(self, timeout: float | None, what: str) -> T:
        """Enter the block within ``timeout`` seconds, and return its value."""
        refuse_event_loop(what)
        portal = background_loop.__enter__()
        self._uses_loop = True
        try:
            self._forget = background_loop.end_with_process(self.entered.cancel)
            self._future = portal.start_task_soon(self._hold)
            value = wait_for(self.entered, timeout, what)
            self._forget()
            self._forget = background_loop.end_with_process(self._end)
        except BaseException:
            self.abandon()
            raise
        return value

    def abandon(self) -> None:
        """End the block, or the attempt to enter it, without waiting for that. The thread does not run in it."""
        # The block may have been entered, although Ctrl-C has kept its value from the thread.
        if not self.entered.cancel() and self._left is not None:
            self._call_soon(self._left.set)
        if self._future is not None:  # otherwise Ctrl-C came first, and the task ends when it enters the block
            self._future.cancel()
        self._free_loop()

    def _free_loop(self) -> None:
        if self._uses_loop:
            self._uses_loop = False
            if self._forget is not None:
                self._forget()
            background_loop.__exit__()

    def cancel_at_end(self, future: Future[Any]) -> None:
        """Cancel ``future`` when the async block ends, or now if it has ended."""
        assert self._future is not None
        self._future.add_done_callback(lambda _: future.cancel())

    @property
    def error(self) -> BaseException | None:
        """The exception of the async block, if it has ended with one."""
        done = self._future is not None and self._future.done() and not self._future.cancelled()
        return self._future.exception() if done and self._future is not None else None

    async def _hold(self) -> None:
        try:
            async with self._block as value:
                self.context = contextvars.copy_context()
                self._left = anyio.Event()
                self._call_soon = loop_scheduler()
                if not self.entered.set_running_or_notify_cancel():
                    return
                self.entered.set_result(value)
                with anyio.CancelScope(shield=self._joined):
                    await self._left.wait()
                if self._error is not None:
                    raise self._error  # noqa: TRY301 - through the async block
        except Exception as error:
            if self.entered.done() or not self.entered.set_running_or_notify_cancel():
                raise
            self.entered.set_exception(error)

    def leave(self, error: BaseException | None, *, wait: bool = True) -> None:
        """Leave the block, with the exception of the thread's block. Raise the async block's error, if it is another one.

        Args:
            error: The exception of the thread's block.
            wait: Wait until the async block has ended. Otherwise the loop is kept until the end of the process.
        """
        try:
            future = self._request_end(error)
        except BaseException:
            self._request_end(error)  # Ctrl-C: a block that is not left would hold leadership
            raise
        if future is None or not wait:
            return
        try:
            result_of(future)
        except BaseException as raised:
            if raised is not error:
                raise
        finally:
            if future.done():  # otherwise a second Ctrl-C has interrupted the wait
                self._free_loop()

    def _request_end(self, error: BaseException | None) -> Future[None] | None:
        """Let the task leave the block. Return its future, or None if there is nothing to wait for."""
        if self._process != process_id() or not self._uses_loop:
            return None  # a forked child has no such loop; an attempt that has failed was abandoned
        if self._left is None:
            self.abandon()  # the attempt was interrupted, and so was its end
            return None
        # The loop would end by an interruption, such as KeyboardInterrupt.
        self._error = error if isinstance(error, Exception) else None
        self._call_soon(self._left.set)
        return self._future


class NewestValue(Iterator[T]):
    """An iterator over the newest of the values that another thread puts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._values: deque[T] = deque(maxlen=1)
        self._closed = False
        self._error: Exception | None = None

    def put(self, value: T) -> None:
        with self._changed:
            self._values.append(value)
            self._changed.notify_all()

    def close(self, error: BaseException | None) -> None:
        with self._changed:
            self._closed, self._error = True, error if isinstance(error, Exception) else None
            self._changed.notify_all()

    def wait_closed(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(SIGNAL_CHECK_SECONDS)

    def __next__(self) -> T:
        with self._changed:
            while not self._values and not self._closed:
                self._changed.wait(SIGNAL_CHECK_SECONDS)
            if self._values:
                return self._values.pop()
            if self._error is not None:
                raise self._error
            raise StopIteration
