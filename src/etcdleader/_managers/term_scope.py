"""One term and everything that runs in its name: marked, then cancelled, then joined, in that order."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType

import anyio
import anyio.lowlevel

from .._lease.lease_clock import loss_reason_at
from .._runtime.events import Event
from ..model import LossReason, Term

_SLACK = 0.001
"""Seconds by which a scope's deadline may be off: to set it is to set a timer, and two clocks never say quite the same."""


class TermScope:
    """The scope that the work of one term lives in.

    Attributes:
        term: The term.
        confirm: Returns when etcd has confirmed the term, when the term is over, or after ``retry``. On the loop of the campaign.
        joined: Its work has ended.
        released: Set when the seat was given back.
        overrun_reported: The overrun was reported.
    """

    __slots__ = (
        "_clock",
        "_leadership_lost_at",
        "_left",
        "_margin",
        "_on_close",
        "_scopes",
        "closed_at",
        "confirm",
        "joined",
        "overrun_reported",
        "released",
        "term",
    )

    def __init__(
        self,
        term: Term,
        *,
        clock: Callable[[], float],
        margin: float,
        on_close: Callable[[], None],
        confirm: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self.term = term
        self.confirm = confirm
        self.joined = False
        self.released = Event()
        self.overrun_reported = False
        self.closed_at: float | None = None
        self._leadership_lost_at = math.inf
        self._clock = clock
        self._margin = margin
        self._on_close = on_close
        self._scopes: dict[anyio.CancelScope, None] = {}  # in the order of their making: a set has none
        self._left = Event()

    def close(self, reason: LossReason) -> None:
        """End the term: first the mark, so that the work's own clean-up finds ``is_valid()`` False; then cancel.

        Past the lease's deadline the reason is EXPIRED.
        """
        if self.term.loss_reason is not None:
            return
        self.term.loss_reason = loss_reason_at(reason, self.lease_remaining())
        self.closed_at = self._clock()
        # Before anybody is told: what tells may fail.
        for scope in list(self._scopes):
            scope.cancel()
        self._on_close()

    def lease_remaining(self) -> float:
        """Return the seconds until the lease's deadline, even if the term was lost for another reason."""
        return self.term._remaining()  # noqa: SLF001 - the public remaining() is that of the term

    @property
    def closed(self) -> bool:
        """Whether the end was marked."""
        return self.term.loss_reason is not None

    def leadership_lost(self, reason: LossReason) -> None:
        """The seat may be, or has been, given to somebody else."""
        self._leadership_lost_at = min(self._leadership_lost_at, self._clock())
        self.close(reason)

    def overrun_in(self, lease_remaining: float) -> float | None:
        """Seconds until work that still runs is an overrun: half a margin after the deadline, or after the seat was
        lost. None when it has ended. Called from the guard's thread, too."""
        if self.joined:
            return None
        now = self._clock()
        return min(lease_remaining, self._leadership_lost_at - now) + self._margin / 2

    def had_time_to_end(self) -> bool:
        """Whether the work was cancelled half a margin ago: that of a process which was frozen hears of it late."""
        return self.closed_at is not None and self._clock() - self.closed_at >= self._margin / 2

    def work(self, scope: anyio.CancelScope, now: float) -> AbstractContextManager[None]:
        """The block runs in the term's name, in ``scope``: it is cancelled when the term ends, and waited for.

        Args:
            scope: Already entered.
            now: The moment on the loop's clock.
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
        """The lease may have been renewed: then the scopes may last longer.

        Args:
            now: The moment on the loop's clock.
            remaining: Seconds until the lease's deadline.
        """
        deadline = self._backstop(now, min(remaining, 0.0) if self.closed else remaining)
        for scope in self._scopes:
            if abs(scope.deadline - deadline) > _SLACK:
                scope.deadline = deadline

    def _backstop(self, now: float, remaining: float) -> float:
        """When a scope ends anyhow, on the loop's clock. That clock may stand still in suspend, and it knows no reason
        to give, so it comes a little after the ticker that does both."""
        return now + remaining + self._margin / 4

    async def join(self) -> None:
        """Wait until nothing runs in the term's name any more, whatever interrupts the wait.

        No scope of anyio's can: callers are shielded. But asyncio's own ``Task.cancel()`` goes through shields, and a
        program that cancels all tasks of its loop would have the seat released under work that still cleans up.
        """
        interruption: BaseException | None = None
        while self._scopes:
            self._left = Event()
            try:
                await self._left.wait()
            except anyio.get_cancelled_exc_class() as error:
                interruption = error
        self.joined = True
        if interruption is not None:
            raise interruption


class _Work(AbstractContextManager[None]):
    # No generator: a term is in such a block for as long as it lasts.
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
