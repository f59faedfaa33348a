"""A limit on what is under way at a time, in the order in which it was asked for."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .events import Event

T = TypeVar("T")


class FairLimiter:
    """A capacity limiter whose waiters have patience, and whose capacity may change at any time.

    Thousands of calls at once would hold each other up until most responses come too late, and then begin again.
    Unlike anyio's ``CapacityLimiter`` it knows no borrowers, and it needs no cancel scope for a wait with a limit.

    Attributes:
        borrowed_tokens: How many tokens are taken, including those of waiters that were woken and have not run yet.
        progress_at: When a token was last released after a success, on the loop's clock; -inf if none was.
    """

    def __init__(self, total_tokens: float) -> None:
        self.borrowed_tokens = 0
        self.progress_at = -math.inf
        self._total_tokens = total_tokens
        self._waiting: OrderedDict[Event, None] = OrderedDict()

    @property
    def total_tokens(self) -> float:
        """How many tokens there are. A larger number wakes waiters; a smaller one takes no token back."""
        return self._total_tokens

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        self._total_tokens = value
        self._wake_waiters()

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; below 0 if the capacity has fallen below what is taken."""
        return self._total_tokens - self.borrowed_tokens

    @property
    def waiting(self) -> int:
        """How many wait for a token."""
        return len(self._waiting)

    def acquire_nowait(self) -> bool:
        """Take a token if one is free, and return whether it did. While one is free, no caller waits."""
        if self.borrowed_tokens >= self._total_tokens:
            return False
        self.borrowed_tokens += 1
        return True

    async def acquire(self, patience: float = math.inf) -> bool:
        """Wait for a token. Return False without one if nothing succeeded for ``patience`` seconds.

        They are counted from the beginning of the wait, or from ``progress_at`` if that is later. Release the token.
        """
        if self.acquire_nowait():
            return True
        begun = anyio.current_time()
        turn = Event()
        self._waiting[turn] = None
        try:
            while not turn.is_set():
                left = max(begun, self.progress_at) + patience - anyio.current_time()
                if left <= 0:
                    del self._waiting[turn]
                    return False
                if math.isinf(left):
                    await turn.wait()
                else:
                    await turn.wait_for(left)
        except BaseException:
            if turn.is_set():
                self.release()
            else:
                del self._waiting[turn]
            raise
        return True

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call something with a token, and return what it returns. That it returns is a success."""
        await self.acquire()
        succeeded = False
        try:
            result = await call()
            succeeded = True
        finally:
            self.release(succeeded=succeeded)
        return result

    def release(self, *, succeeded: bool = False) -> None:
        """Give a token back. A success gives those that wait new patience."""
        if succeeded:
            self.progress_at = anyio.current_time()
        self.borrowed_tokens -= 1
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiting and self.acquire_nowait():
            turn, _ = self._waiting.popitem(last=False)
            turn.set()
