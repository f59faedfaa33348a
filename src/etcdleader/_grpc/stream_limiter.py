"""Places for calls on a connection whose peer allows only so many streams at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .._runtime.events import LightEvent

__all__ = ("Places",)


class Places:
    """They are given in turn: hundreds may wait, and each place that is freed wakes one of them.

    Attributes:
        taken: How many calls have one.
    """

    def __init__(self, has_room: Callable[[int], bool], is_over: Callable[[], bool], reserved: int) -> None:
        """All are free.

        Args:
            has_room: Whether there is room for one more stream beside so many that are yet to come.
            is_over: Whether there is nothing to wait for any more.
            reserved: Places that calls leave to streams. A lone call may take one of them.
        """
        self.taken = 0
        self._has_room = has_room
        self._is_over = is_over
        self._reserved = reserved
        self._waiting: OrderedDict[LightEvent, object] = OrderedDict()
        self._promised = 0
        """How many were given one, and have not taken it yet."""

    def any_free(self) -> bool:
        """Whether one can be taken without waiting."""
        return not self._waiting and self._room_for_a_call()

    async def wait(self, timeout: float) -> bool:
        """Wait for one, or until there is nothing to wait for. False: neither was, in so many seconds."""
        turn = LightEvent()
        self._waiting[turn] = None
        try:
            await turn.wait_for(timeout)
        except BaseException:
            if self._waiting.pop(turn, self) is self:  # it was given one
                self._promised -= 1
                self.let_in()
            raise
        if not turn.is_set():
            del self._waiting[turn]
            return False
        self._promised -= 1
        return True

    def let_in(self) -> None:
        """Something has changed: wake those for whom there is room, or nothing to wait for."""
        while self._waiting and (self._is_over() or self._room_for_a_call()):
            turn, _ = self._waiting.popitem(last=False)
            self._promised += 1
            turn.set()

    def _room_for_a_call(self) -> bool:
        return self._has_room(self._promised + (self._reserved if self.taken + self._promised else 0))
