"""A FIFO limiter for concurrent calls."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .events import Event

T = TypeVar("T")


class FairLimiter:
    """A capacity limiter that admits callers in arrival order. Its capacity may change at any time.

    Thousands of concurrent calls would slow each other down until most responses arrive too late and are retried.
    Unlike anyio's ``CapacityLimiter``, it does not record borrowers. A wait with a timeout needs no cancel scope.

    Attributes:
        borrowed_tokens: The number of tokens in use, including those of waiters that were woken and have not run yet.
        progress_at: The time of the last release after a success, on the loop's clock; -inf before the first.
    """

    def __init__(self, total_tokens: float) -> None:
        self.borrowed_tokens = 0
        self.progress_at = -math.inf
        self._total_tokens = total_tokens
        self._waiting: OrderedDict[Event, None] = OrderedDict()

    @property
    def total_tokens(self) -> float:
        """The capacity. A larger value wakes waiters. A smaller value does not revoke tokens that are in use."""
        return self._total_tokens

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        self._total_tokens = value
        self._wake_waiters()

    @property
    def available_tokens(self) -> float:
        """The number of free tokens; negative if the capacity was reduced below the number in use."""
        return self._total_tokens - self.borrowed_tokens

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a token."""
        return len(self._waiting)

    def try_acquire(self) -> bool:
        """Take a token if one is free, and return whether it did. While a token is free, no caller waits."""
        if self.borrowed_tokens >= self._total_tokens:
            return False
        self.borrowed_tokens += 1
        return True

    async def acquire(self, patience: float = math.inf) -> bool:
        """Wait for a token and return True, or return False if no call succeeded for ``patience`` seconds.

        The time is counted from the beginning of the wait, or from ``progress_at`` if that is later. After True, the
        caller must call ``release``.
        """
        if self.try_acquire():
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
        """Call a function while holding a token, and return its result. A return counts as a success."""
        await self.acquire()
        succeeded = False
        try:
            result = await call()
            succeeded = True
        finally:
            self.release(succeeded=succeeded)
        return result

    def release(self, *, succeeded: bool = False) -> None:
        """Release a token. A success restarts the ``patience`` of all waiters."""
        if succeeded:
            self.progress_at = anyio.current_time()
        self.borrowed_tokens -= 1
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiting and self.try_acquire():
            turn, _ = self._waiting.popitem(last=False)
            turn.set()
