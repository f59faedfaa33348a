"""Whose turn it is to ask: of thousands who want to, a few do, and the others wait."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .events import LightEvent

__all__ = ("Turns",)

T = TypeVar("T")


class Turns:
    """Lets so many ask at a time, in the order in which they came.

    Thousands at once would hold each other up until the answers to most came too late, and then begin anew.

    Attributes:
        passed_at: When somebody got an answer last, on the loop's clock.
    """

    def __init__(self, places: int) -> None:
        """Make one for so many at a time."""
        self.passed_at = -math.inf
        self._free = places
        self._waiting: OrderedDict[LightEvent, None] = OrderedDict()

    @property
    def any_free(self) -> bool:
        """Whether one can be taken without waiting."""
        return self._free > 0

    async def take(self, patience: float = math.inf) -> bool:
        """Wait for a turn. False: for so many seconds nobody has got an answer, and it is given up.

        Whoever has taken one gives it back.
        """
        if self._free:
            self._free -= 1
            return True
        begun = anyio.current_time()
        turn = LightEvent()
        self._waiting[turn] = None
        try:
            while not turn.is_set():
                left = max(begun, self.passed_at) + patience - anyio.current_time()
                if left <= 0:
                    del self._waiting[turn]
                    return False
                if math.isinf(left):
                    await turn.wait()
                else:
                    await turn.wait_for(left)
        except BaseException:
            if turn.is_set():
                self._hand_on()
            else:
                del self._waiting[turn]
            raise
        return True

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call brings, made when it is its turn."""
        await self.take()
        answered = False
        try:
            answer = await call()
            answered = True
        finally:
            self.give_back(answered=answered)
        return answer

    def give_back(self, *, answered: bool) -> None:
        """The next one may. ``answered`` says whether it was worth it."""
        if answered:
            self.passed_at = anyio.current_time()
        self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            turn.set()
        else:
            self._free += 1
