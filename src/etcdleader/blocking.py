"""Leader election for threads and plain functions: a manager whose calls block.

The campaign runs on an event loop in a background thread, which all managers of the process share. Any thread may call any
method, except a thread with a running event loop: there, call the manager's own methods.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel

from ._managers.reentrancy import on_same_behalf
from ._managers.thread_bridge import HeldBlock, NewestValue, WorkCall
from ._managers.work import check_callable, is_async
from ._runtime.background_loop import (
    SIGNAL_CHECK_SECONDS,
    background_loop,
    checked_timeout,
    refuse_event_loop,
    result_of,
    wait_for,
)
from ._runtime.fork import process_id
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
        """Start nothing yet.

        Raises:
            TypeError: ``manager`` is no manager.
        """
        if not isinstance(manager, LeaderManager):
            raise TypeError(f"BlockingLeaderManager() takes a manager, not {manager!r}")
        self.manager = manager
        self._block: HeldBlock[Any] | None = None
        self._leading_blocks: dict[HeldBlock[Term], int] = {}
        """The blocks of ``leading()`` that were not left, and the number of the thread of each."""

    def __repr__(self) -> str:
        return f"<BlockingLeaderManager of {self.manager!r}>"

    # The campaign

    def __enter__(self) -> Self:
        """Campaign in the background.

        Raises:
            BusyResourceError: A campaign is running already.
        """
        before = self._block
        self._block = block = HeldBlock(self.manager, self._stop_at_exit, joined=False)
        try:
            block.enter(None, "campaign()")
        except BaseException:
            self._block = before
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the campaign, and wait until leadership is released.

        Called in a step or a leading block of this thread, request the end and return, as ``stop()`` does.
        """
        block, self._block = self._block, None
        if block is None:
            return
        inside: bool = getattr(self.manager, "_is_inside", bool)()  # False for a manager of another kind than ours
        if not inside:
            for held, thread in list(self._leading_blocks.items()):
                if thread == threading.get_ident():
                    held.abandon()  # Ctrl-C has interrupted the end of this block, and leadership would be held forever
        block.leave(error, wait=not inside)

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
        calls: queue.SimpleQueue[WorkCall | None] = queue.SimpleQueue()
        requested: list[WorkCall] = []
        """All calls. Ctrl-C can interrupt this thread after it took one from the queue."""
        interrupted = False

        async def serve(term: Term) -> Any:
            call = WorkCall(term)
            requested.append(call)
            calls.put(call)
            if interrupted:
                call.skip()
            with anyio.CancelScope(shield=True):
                await call.ended.wait()
            requested.remove(call)
            if not call.completed:
                await self.manager.stop()  # from the work, it only requests the end
                await anyio.sleep_forever()
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
        process = process_id()
        with background_loop as portal:
            forget = background_loop.end_with_process(self._stop_at_exit)
            try:
                future = portal.start_task_soon(start, serve)
                future.add_done_callback(lambda _: calls.put(None))
                while (call := _next_call(calls)) is not None:
                    interruption = call.run(work)
                    if process != process_id():
                        break
            except BaseException:  # Ctrl-C outside the work
                interrupted = True
                for call in requested:
                    call.skip()
                self._call("stop()", self.manager.stop)
                raise
            finally:
                forget()
            if interruption is not None:
                raise interruption
            if call is not None:  # a child that the work has forked, where no loop runs
                if call.error is not None:
                    raise call.error
                return call.result
            return result_of(future)

    def stop(self) -> None:
        """End the campaign, and wait until leadership is released. From the work itself, only request the end.

        Do not call it in a signal handler, but in a thread that the handler starts. The handler may have interrupted this
        thread right before the work, and would then wait for it forever.
        """
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
            if timeout == 0 and (term := self.manager.term) is not None:
                return term
            future = portal.start_task_soon(self.manager.wait_elected)
            forget = background_loop.end_with_process(future.cancel)
            try:
                with self._ending_with_the_campaign(future):
                    return wait_for(future, timeout, "wait_elected()")
            finally:
                forget()

    @contextmanager
    def _ending_with_the_campaign(self, future: Future[Any]) -> Iterator[None]:
        """Cancel the future if the campaign of the block has ended. The future would wait for another campaign."""
        block = self._block
        if block is not None:
            block.cancel_at_end(future)
        try:
            yield
        except CancelledError:
            ended = "this process ends" if block is None else f"the campaign of {self.manager!r} has ended"
            raise NotLeaderError(ended) from (None if block is None else block.error)

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
        block = HeldBlock(self.manager.leading(), self._stop_at_exit, joined=True)
        self._leading_blocks[block] = threading.get_ident()
        error: BaseException | None = None
        try:
            with self._ending_with_the_campaign(block.entered):
                term = block.enter(timeout, "leading()")
            with on_same_behalf(block.context):
                yield term
        except BaseException as raised:
            error = raised
            raise
        finally:
            block.leave(error)
            self._leading_blocks.pop(block, None)

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
        newest: NewestValue[LeaderRecord | None] = NewestValue()

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

            process = process_id()
            forget = background_loop.end_with_process(end)
            try:
                yield iter(newest)
            finally:
                if process == process_id():  # a forked child has no such loop
                    end()
                    forget()

    def _call(
        self, what: str, function: Callable[..., Awaitable[T]], *arguments: Any, timeout: float | None = None
    ) -> T:
        timeout = checked_timeout(timeout)
        refuse_event_loop(what)
        with background_loop as portal:
            return wait_for(portal.start_task_soon(function, *arguments), timeout, what)


def _next_call(calls: queue.SimpleQueue[WorkCall | None]) -> WorkCall | None:
    while True:
        with suppress(queue.Empty):
            return calls.get(timeout=SIGNAL_CHECK_SECONDS)
