"""One term and everything that runs in its name: marked, then cancelled, then joined, in that order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from ._loop import LazyEvent
from .model import LossReason, Term

__all__ = ("TermScope",)


class TermScope:
    """The scope that the work of one term lives in.

    Attributes:
        term: The term.
        joined: Its work has ended.
        released: Set when the seat was given back.
        overrun_told: The overrun was reported.
    """

    def __init__(self, term: Term, *, clock: Callable[[], float], margin: float, on_close: Callable[[], None]) -> None:
        self.term = term
        self.joined = False
        self.released = LazyEvent()
        self.overrun_told = False
        self.closed_at: float | None = None
        self._seat_lost_at = math.inf
        self._clock = clock
        self._margin = margin
        self._on_close = on_close
        self._scopes: dict[anyio.CancelScope, None] = {}  # in the order of their making: a set has none
        self._left = LazyEvent()

    def close(self, reason: LossReason) -> None:
        """End the term: first the mark, so that the work's own clean-up finds ``is_valid()`` False; then cancel."""
        if self.term.loss_reason is not None:
            return
        self.term.loss_reason = reason
        self.closed_at = self._clock()
        # Before anybody is told: what tells may fail.
        for scope in list(self._scopes):
            scope.cancel()
        self._on_close()

    @property
    def closed(self) -> bool:
        """Whether the end was marked."""
        return self.term.loss_reason is not None

    def seat_lost(self, reason: LossReason) -> None:
        """The seat may be, or has been, given to somebody else."""
        self._seat_lost_at = min(self._seat_lost_at, self._clock())
        self.close(reason)

    def overrun_in(self, lease_remaining: float) -> float | None:
        """Seconds until work that still runs is an overrun: half a margin after the deadline, or after the seat was
        lost. None when it has ended. Called from the guard's thread, too."""
        if self.joined:
            return None
        now = self._clock()
        return min(lease_remaining, self._seat_lost_at - now) + self._margin / 2

    def had_time_to_end(self) -> bool:
        """Whether the work was cancelled half a margin ago: that of a process which was frozen hears of it late."""
        return self.closed_at is not None and self._clock() - self.closed_at >= self._margin / 2

    @contextmanager
    def work(self, scope: anyio.CancelScope, now: float) -> Iterator[None]:
        """Something runs in the term's name, in ``scope``: it is cancelled when the term ends, and waited for.

        Args:
            scope: Already entered.
            now: The moment on the loop's clock.
        """
        scope.deadline = self._backstop(now)
        self._scopes[scope] = None
        if self.closed:
            scope.cancel()
        try:
            yield
        finally:
            self._scopes.pop(scope, None)
            if not self._scopes:
                self._left.set()

    def extend_backstop(self, now: float) -> None:
        """The lease was renewed: the scopes may last longer."""
        deadline = self._backstop(now)
        for scope in self._scopes:
            scope.deadline = deadline

    def _backstop(self, now: float) -> float:
        """When a scope ends anyhow, on the loop's clock. That clock may stand still in suspend, and it knows no reason
        to give, so it comes a little after the ticker that does both."""
        return now + self.term.remaining() + self._margin / 4

    async def join(self) -> None:
        """Wait until nothing runs in the term's name any more, whatever interrupts the wait.

        No scope of anyio's can: callers are shielded. But asyncio's own ``Task.cancel()`` goes through shields, and a
        program that cancels all tasks of its loop would have the seat released under work that still cleans up.
        """
        interruption: BaseException | None = None
        while self._scopes:
            self._left = LazyEvent()
            try:
                await self._left.wait()
            except anyio.get_cancelled_exc_class() as error:
                interruption = error
        self.joined = True
        if interruption is not None:
            raise interruption
