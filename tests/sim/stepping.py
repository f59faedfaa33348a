"""Steps that last until a test ends them, in a thread or in a task."""

from __future__ import annotations

import math
import threading

from etcdleader import LeaderManager, Term
from tests.helpers.threads import threads_have
from tests.sim.world import until


class Stepping:
    """A step that lasts until the test ends it: in a thread, or in a task."""

    def __init__(self, manager: LeaderManager) -> None:
        self.manager = manager
        self.term: Term | None = None
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def in_a_thread(self) -> None:
        with self.manager.step() as self.term:
            self.begun.set()
            self.may_end.wait(60)
        self.ended.set()

    async def on_the_loop(self) -> None:
        async with self.manager.step() as self.term:
            self.begun.set()
            await until(self.may_end.is_set, math.inf)
        self.ended.set()


class Steps:
    """Makes steps, and ends them all."""

    def __init__(self) -> None:
        self._made: list[Stepping] = []

    def __call__(self, manager: LeaderManager) -> Stepping:
        self._made.append(Stepping(manager))
        return self._made[-1]

    def end(self) -> None:
        for step in self._made:
            step.may_end.set()


PLACES = ("thread", "loop")


async def step_of(manager: LeaderManager) -> list[Term | None]:
    """Return what a step receives now: in a thread, with ``async with``, and with ``with``."""
    received: list[Term | None] = []

    def in_a_thread() -> None:
        with manager.step() as term:
            received.append(term)

    threading.Thread(target=in_a_thread, daemon=True).start()
    await threads_have(lambda: received)
    async with manager.step() as on_the_loop:
        pass
    with manager.step() as at_once:
        pass
    return [*received, on_the_loop, at_once]
