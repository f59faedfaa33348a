"""Leader election for threads and plain functions: a manager whose calls block.

The campaign runs on an event loop in a background thread, which all managers of the process share. Any thread may call any
method, except a thread with a running event loop: there, call the manager's own methods.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel

from ._managers.reentrancy import on_same_behalf
from ._managers.work import check_callable, is_async
from ._runtime.background_loop import background_loop, checked_timeout, refuse_event_loop, wait_for
from ._runtime.fork import process_id
from ._runtime.tasks import loop_scheduler
from .errors import NotLeaderError
from .manager import LeaderManager
from .model import LeaderRecord, Term

__all__ = ("BlockingLeaderManager",)

T = TypeVar("T")


class BlockingLeaderManager:
    """A manager for threads. The methods are those of :class:`LeaderManager`, and have the same contract.

    As a context manager, it campaigns in the background and stops at the end of the block::

        with BlockingLeaderManager(manager) as blocking:
            while not shutting_down():
                with blocking.step() as term:
                    if term is not None:
                        send_reports(term.token)
                time.sleep(1)

    Entering does not wait for etcd. If the campaign has failed, leaving the block raises its error. If the main thread ends
    without leaving the block, the campaign is stopped, and the process waits for that for at most ``lease``. A forked child
    does not campaign until it enters its own block.

    Attributes:
        manager: The manager that campaigns.
    """

    def __init__(self, manager: LeaderManager) -> None:
        self.manager = manager
        self._block: _Block[Any] | None = None

    def __repr__(self) -> str:
        return f"<BlockingLeaderManager of {self.manager!r}>"

    # The campaign

    def __enter__(self) -> Self:
        """Campaign in the background.

        Raises:
            BusyResourceError: A campaign is running already.
        """
        block = _Block(self.manager, self._stop_at_exit, joined=False)
        block.enter(None, "campaign()")
        self._block = block
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.leave(error)

    def _stop_at_exit(self) -> None:
        self._call("stop()", self.manager.stop, timeout=self.manager.config.lease)

    def run(self, work: Callable[[Term], T]) -> T | None:
        """Campaign, and call ``work(term)`` in this thread in each term. Return its result, or None after ``stop()``.

        Leadership is not released before ``work`` has returned. A thread cannot be interrupted: ``work`` must return soon
        after ``term.is_valid()`` is False or ``term.wait()`` has returned False. Then the candidate queues again.

        Raises:
            BusyResourceError: A campaign is running already.
            TypeError: ``work`` is an async function, or cannot be called with one argument.
        """
        result: T | None = self._serve("run()", self.manager.run, work)
        return result

    def run_once(self, name: str, work: Callable[[Term], Any]) -> bool:
        """Campaign, and have ``work(term)`` done once by one of the candidates, in this thread if it is this one.

        Returns:
            True if this process did the work. False if it was done before, or elsewhere.

        Raises:
            BusyResourceError: A campaign is running already.
            NotLeaderError: ``stop()`` was called before the work was done.
            TypeError: ``work`` is an async function, or cannot be called with one argument.
            ValueError: The name is not valid.
        """
        done: bool = self._serve("run_once()", lambda serve: self.manager.run_once(name, serve), work)
        return done

    def _serve(
        self, what: str, start: Callable[[Callable[[Term], Awaitable[Any]]], Awaitable[Any]], work: Callable[..., Any]
    ) -> Any:
        calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        interrupted = False

        async def serve(term: Term) -> Any:
            call = _Call(term)
            calls.put(call)
            if interrupted:
                call.skip()
            with anyio.CancelScope(shield=True):
                await call.ended.wait()
            if call.error is not None:
                raise call.error
            await anyio.lowlevel.checkpoint_if_cancelled()  # if the term is over, the result does not end the campaign
            return call.result

        check_callable(what.removesuffix("()"), work, "term")
        if is_async(work):
            raise TypeError(
                f"{what} calls work in this thread, so it takes a plain function: await the manager's own {what}"
            )
        refuse_event_loop(what)
        interruption: BaseException | None = None
        with background_loop as portal:
            forget = background_loop.end_with_process(self._stop_at_exit)
            try:
                future = portal.start_task_soon(start, serve)
                future.add_done_callback(lambda _: calls.put(None))
                while (call := calls.get()) is not None:
                    interruption = call.run(work)
            except BaseException:  # Ctrl-C outside the work
                interrupted = True
                while not calls.empty():
                    if (call := calls.get()) is not None:
                        call.skip()
                self._call("stop()", self.manager.stop)
                raise
            finally:
                forget()
            if interruption is not None:
                raise interruption
            return future.result()

    def stop(self) -> None:
        """End the campaign, and wait until leadership is released. From the work itself, only request the end."""
        self._call("stop()", self.manager.stop)

    def resign(self, to: str | None = None) -> None:
        """Give up leadership, stay a candidate, and wait until leadership is released.

        Args:
            to: The identity of the candidate that leads next. None: the next in line.

        Raises:
            HandOverError: The named candidate cannot be the next leader. This process still leads.
        """
        self._call("resign()", lambda: self.manager.resign(to=to))

    def advertise(self, value: str | None) -> None:
        """Advertise a text, such as an address, as ``LeaderRecord.advertised``. Return once etcd has it."""
        self._call("advertise()", self.manager.advertise, value)

    # The state

    @property
    def term(self) -> Term | None:
        """The current valid term, or None. It makes no request."""
        return self.manager.term

    def is_leader(self) -> bool:
        """Return whether this process leads now. It makes no request. To do something as the leader, use ``step()``."""
        return self.manager.is_leader()

    # Leading

    def step(self) -> AbstractContextManager[Term | None]:
        """Return a block in which leadership is not released. It receives the term, or None if this process does not lead."""
        return self.manager.step()

    def wait_elected(self, timeout: float | None = None) -> Term:
        """Wait for a valid term, and return it.

        Raises:
            NotLeaderError: The campaign has ended.
            TimeoutError: ``timeout`` seconds have passed.
        """
        timeout = checked_timeout(timeout)
        refuse_event_loop("wait_elected()")
        with background_loop as portal:
            future = portal.start_task_soon(self.manager.wait_elected)
            with self._ending_with_the_campaign(future):
                return wait_for(future, timeout, "wait_elected()")

    @contextmanager
    def _ending_with_the_campaign(self, future: Future[Any]) -> Iterator[None]:
        """Cancel the future if the campaign of the block has ended. The future would wait for another campaign."""
        block = self._block
        if block is not None:
            block.cancel_at_end(future)
        try:
            yield
        except CancelledError:
            if block is None:
                raise
            raise NotLeaderError(f"the campaign of {self.manager!r} has ended") from block.error

    def leading(self, timeout: float | None = None) -> AbstractContextManager[Term]:
        """Return a block that waits to be elected and runs in the term. Leadership is not released before its end.

        A block in a thread cannot be interrupted. Check ``term.is_valid()``, or sleep by ``term.wait()``.

        Raises:
            LeadershipLostError: At the end of the block, if the term has ended.
            NotLeaderError: The campaign has ended.
            TimeoutError: ``timeout`` seconds have passed before the election.
        """
        return self._leading(checked_timeout(timeout))

    @contextmanager
    def _leading(self, timeout: float | None) -> Iterator[Term]:
        block = _Block(self.manager.leading(), self._stop_at_exit, joined=True)
        with self._ending_with_the_campaign(block.entered):
            term = block.enter(timeout, "leading()")
        error: BaseException | None = None
        try:
            with on_same_behalf(block.context):
                yield term
        except BaseException as raised:
            error = raised
            raise
        finally:
            block.leave(error)

    def extend(self, term: Term | None = None) -> Term:
        """Renew and confirm the lease now.

        Raises:
            EtcdUnavailableError: etcd has not responded within ``retry``. The term continues.
            LeadershipLostError: ``term`` is not the current term.
            NotLeaderError: This process does not lead.
        """
        return self._call("extend()", self.manager.extend, term)

    # The queue

    def leader(self) -> LeaderRecord | None:
        """Return the leader by a linearizable read; None if there is none."""
        return self._call("leader()", self.manager.leader)

    def candidates(self) -> list[LeaderRecord]:
        """Return the queue, the leader first, by a linearizable read."""
        return self._call("candidates()", self.manager.candidates)

    @contextmanager
    def observe(self) -> Iterator[Iterator[LeaderRecord | None]]:
        """Return a block with an iterator over the leaders. The first item is the current one; None means no leader.

        Each item is the newest state. The iterator skips those that were not read in time.
        """
        newest: _Newest[LeaderRecord | None] = _Newest()

        async def follow() -> None:
            try:
                async with self.manager.observe() as leaders:
                    async for record in leaders:
                        newest.put(record)
            except BaseException as error:
                newest.close(error)
                raise
            newest.close(None)

        refuse_event_loop("observe()")
        with background_loop as portal:
            future = portal.start_task_soon(follow)

            def end() -> None:
                future.cancel()
                newest.wait_closed()

            forget = background_loop.end_with_process(end)
            try:
                yield iter(newest)
            finally:
                end()
                forget()

    def _call(
        self, what: str, function: Callable[..., Awaitable[T]], *arguments: Any, timeout: float | None = None
    ) -> T:
        timeout = checked_timeout(timeout)
        refuse_event_loop(what)
        with background_loop as portal:
            return wait_for(portal.start_task_soon(function, *arguments), timeout, what)


class _Call:
    """One call of the work, which the loop requests and the user's thread makes."""

    def __init__(self, term: Term) -> None:
        self.ended = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self._term = term
        self._context = contextvars.copy_context()
        self._call_soon = loop_scheduler()

    def skip(self) -> None:
        """End the call without calling the work."""
        self._call_soon(self.ended.set)

    def run(self, work: Callable[[Term], Any]) -> BaseException | None:
        """Call the work. Return what interrupted it, such as KeyboardInterrupt. Other errors are the campaign's."""
        try:
            with on_same_behalf(self._context):
                self.result = work(self._term)
        except Exception as error:  # noqa: BLE001 - it is raised in the campaign, and by that in the caller
            self.error = error
        except BaseException as interruption:  # noqa: BLE001 - raised by the caller, once leadership was released
            return interruption
        finally:
            self.skip()
        return None


class _Block(Generic[T]):
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
        self._process = process_id()

    def enter(self, timeout: float | None, what: str) -> T:
        """Enter the block within ``timeout`` seconds, and return its value."""
        refuse_event_loop(what)
        portal = background_loop.__enter__()
        try:
            self._future = portal.start_task_soon(self._hold)
            value = wait_for(self.entered, timeout, what)
        except BaseException:
            self.entered.cancel()
            if self._future is not None:  # otherwise Ctrl-C came first, and the task ends when it enters the block
                self._future.cancel()
            background_loop.__exit__()
            raise
        self._forget = background_loop.end_with_process(self._end)
        return value

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

    def leave(self, error: BaseException | None) -> None:
        """Leave the block, with the exception of the thread's block. Raise the async block's error, if it is another one."""
        if self._process != process_id():
            return  # a forked child has no such loop
        # The loop would end by an interruption, such as KeyboardInterrupt.
        self._error = error if isinstance(error, Exception) else None
        self._call_soon(self._left.set)
        assert self._future is not None
        try:
            self._future.result()
        except BaseException as raised:
            if raised is not error:
                raise
        finally:
            if self._future.done():  # otherwise a second Ctrl-C has interrupted the wait
                self._forget()
                background_loop.__exit__()


class _Newest(Iterator[T]):
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
            self._changed.wait_for(lambda: self._closed)

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._values or self._closed)
            if self._values:
                return self._values.pop()
            if self._error is not None:
                raise self._error
            raise StopIteration
