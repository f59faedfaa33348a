"""The cancel scopes of all work in one term, its end, and the deadline after which the work is an overrun."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType

import anyio
import anyio.lowlevel

from .._lease.lease_deadline import loss_reason_at
from .._runtime.events import Event, is_loop_thread
from .._runtime.tasks import call_soon_on
from ..model import LossReason, Term
from .running_steps import RunningSteps

_MAX_WAIT_SECONDS = 1.0
"""A thread's timer may not count the time in which the machine was suspended, but the lease expires in it."""
_SLACK_SECONDS = 0.001
"""Seconds by which a scope's deadline may be off. Each change sets a timer, and two clocks always differ a little."""


class TermScope:
    """The cancel scopes in which the work of one term runs.

    Attributes:
        term: The term.
        confirm: Returns when etcd has confirmed the term, when the term is over, or after ``retry``. It must be awaited
            on the campaign's loop.
        work_ended: True once the work has ended.
        released: Set when leadership was released.
        overrun_reported: True once an overrun was reported.
        successor: The identity of the candidate that the way was cleared for; None without a hand-over.
        closed_at: The time of the end by the manager's clock; None while the term lasts.
    """

    __slots__ = (
        "_clock",
        "_hand_over",
        "_leadership_lost_at",
        "_left",
        "_loop",
        "_margin",
        "_on_close",
        "_on_end_requested",
        "_requested",
        "_scopes",
        "_steps",
        "_waiting_threads",
        "closed_at",
        "confirm",
        "overrun_reported",
        "released",
        "successor",
        "term",
        "work_ended",
    )

    def __init__(
        self,
        term: Term,
        *,
        clock: Callable[[], float],
        margin: float,
        on_close: Callable[[], None],
        on_end_requested: Callable[[], None] = lambda: None,
        confirm: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self.term = term
        self.confirm = confirm
        self.work_ended = False
        self.released = Event()
        self.overrun_reported = False
        self.closed_at: float | None = None
        self.successor: str | None = None
        self._hand_over: anyio.Lock | None = None
        self._leadership_lost_at = math.inf
        self._clock = clock
        self._margin = margin
        self._on_close = on_close
        self._on_end_requested = on_end_requested
        self._requested: LossReason | None = None
        self._steps = RunningSteps()
        self._loop = anyio.lowlevel.current_token()
        self._scopes: dict[anyio.CancelScope, None] = {}  # in the order of creation, which a set does not keep
        self._left = Event()
        self._waiting_threads: list[threading.Event] = []

    @property
    def hand_over(self) -> anyio.Lock:
        """The lock that one hand-over at a time holds. Most terms end without one, and have no lock."""
        if self._hand_over is None:
            self._hand_over = anyio.Lock()
        return self._hand_over

    def request_end(self, reason: LossReason) -> None:
        """End the term when no step runs. From now on no step begins, and the first reason counts."""
        if self.closed or self._requested is not None:
            return
        self._requested = reason
        if self._steps.refuse():
            self.close(reason)
        else:
            self._on_end_requested()

    def begin_step(self, step: object) -> bool:
        """Begin a step, unless the term is over or its end was requested. Any thread may call this."""
        if not self._steps.begin(step):
            return False
        if self.term.is_valid():
            return True
        self.end_step(step)
        return False

    def end_step(self, step: object) -> None:
        """End a step, if it has begun. Any thread may call this."""
        if self._steps.end(step):
            call_soon_on(self._loop, self._on_last_step)

    def _on_last_step(self) -> None:
        try:
            if self._requested is not None:
                self.close(self._requested)
        finally:
            self._left.set()

    def close(self, reason: LossReason) -> None:
        """End the term: mark it, then cancel its work.

        The mark comes first, so that ``is_valid()`` is False in the clean-up of the work. After the lease's deadline,
        the reason is always EXPIRED.
        """
        if self.term.loss_reason is not None:
            return
        self._steps.refuse()  # a step that began before is joined
        self.term.loss_reason = loss_reason_at(reason, self.lease_remaining())
        self.closed_at = self._clock()
        # The cancellation comes before the report, which may fail.
        for scope in list(self._scopes):
            scope.cancel()
        for waiting in self._waiting_threads.copy():
            waiting.set()
        self._on_close()

    def lease_remaining(self) -> float:
        """Return the seconds until the lease's deadline, even if the term was lost for another reason."""
        return self.term._remaining()  # noqa: SLF001 - the public remaining() is that of the term

    @property
    def closed(self) -> bool:
        """True once the end was marked."""
        return self.term.loss_reason is not None

    def leadership_lost(self, reason: LossReason) -> None:
        """End the term because another candidate leads, or may lead soon."""
        self._leadership_lost_at = min(self._leadership_lost_at, self._clock())
        self.close(reason)

    def overrun_in(self, lease_remaining: float) -> float | None:
        """Return the seconds until work that still runs is an overrun; None if the work has ended.

        Work is an overrun half a margin after the lease's deadline, or after leadership was lost, if that is earlier.
        The watchdog's thread calls this, too.
        """
        if self.work_ended:
            return None
        now = self._clock()
        return min(lease_remaining, self._leadership_lost_at - now) + self._margin / 2

    def had_time_to_end(self) -> bool:
        """Return True if the work was cancelled at least half a margin ago.

        The work of a process that was frozen receives its cancellation late, and needs time to end.
        """
        return self.closed_at is not None and self._clock() - self.closed_at >= self._margin / 2

    def wait(self, seconds: float) -> bool:
        """Return True after ``seconds``, or False when the term is over. Any other thread than a loop's may call this."""
        if is_loop_thread():
            raise RuntimeError(
                "term.wait() blocks its thread, and an event loop runs in this one: use `await anyio.sleep(seconds)`, "
                "which the end of the term cancels"
            )
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        until = time.monotonic() + seconds
        ended = threading.Event()
        self._waiting_threads.append(ended)
        try:
            # The event is registered before the first check, so that no end is missed.
            while self.term.is_valid():
                if (left := until - time.monotonic()) <= 0:
                    return True
                ended.wait(min(left, self.term.remaining(), _MAX_WAIT_SECONDS))
            return False
        finally:
            self._waiting_threads.remove(ended)

    def work(self, scope: anyio.CancelScope, now: float) -> AbstractContextManager[None]:
        """Return a block for work of the term, which is cancelled and awaited when the term ends.

        Args:
            scope: The cancel scope of the work, which is entered already.
            now: The current time on the loop's clock.
        """
        return _Work(self, scope, now)

    def _begins(self, scope: anyio.CancelScope, now: float) -> None:
        scope.deadline = self._backstop(now, self.term.remaining())
        self._scopes[scope] = None
        if self.closed:
            scope.cancel()

    def _ends(self, scope: anyio.CancelScope) -> None:
        self._scopes.pop(scope, None)
        if not self._scopes:
            self._left.set()

    def extend_backstop(self, now: float, remaining: float) -> None:
        """Move the deadlines of the scopes, if the lease was renewed.

        Args:
            now: The current time on the loop's clock.
            remaining: Seconds until the lease's deadline.
        """
        deadline = self._backstop(now, min(remaining, 0.0) if self.closed else remaining)
        for scope in self._scopes:
            if abs(scope.deadline - deadline) > _SLACK_SECONDS:
                scope.deadline = deadline

    def _backstop(self, now: float, remaining: float) -> float:
        """Return the time on the loop's clock at which a scope ends in any case.

        The renewer's check should end the term first: it gives the reason, and its clock counts suspend, as the loop's may not.
        So the backstop is a quarter of a margin later.
        """
        return now + remaining + self._margin / 4

    async def join(self) -> None:
        """Wait until all work and all steps of the term have ended, even if the wait is interrupted.

        anyio's scopes cannot interrupt it, because callers are shielded. But asyncio's ``Task.cancel()`` ignores
        shields. A program that cancels all tasks of its loop would release leadership while work still cleans up.
        """
        interruption: BaseException | None = None
        while self._scopes or self._steps:
            self._left = Event()
            try:
                await self._left.wait()
            except anyio.get_cancelled_exc_class() as error:
                interruption = error
        self.work_ended = True
        if interruption is not None:
            raise interruption


class _Work(AbstractContextManager[None]):
    # No generator, to save memory: a term is in such a block while it lasts.
    __slots__ = ("_now", "_of", "_scope")

    def __init__(self, of: TermScope, scope: anyio.CancelScope, now: float) -> None:
        self._of = of
        self._scope = scope
        self._now = now

    def __enter__(self) -> None:
        self._of._begins(self._scope, self._now)  # noqa: SLF001 - a part of it

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._of._ends(self._scope)  # noqa: SLF001 - a part of it
