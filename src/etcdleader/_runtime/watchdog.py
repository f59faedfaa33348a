"""The thread that ends the process when work outlives its lease and nothing else can stop it.

An event loop that is blocked cannot cancel anything, and work may swallow its cancellation. One daemon thread per
process, started at the first need, compares the clock with the moment of each watched term. It sees what the loop does
not, as long as the interpreter gets to run at all: a C call that never lets go of the GIL stops this thread, too.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from .._values.exit_codes import ExitCode
from .fork import process_id

_LONGEST_SLEEP = 1.0
"""Threads sleep on a clock that stands still in suspend, while leases do not."""


@dataclass(eq=False, slots=True, frozen=True)
class _Watch:
    left: Callable[[], float | None]
    describe: Callable[[], str]


class _Watchdog(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="etcdleader overrun guard", daemon=True)
        self.process = process_id()
        self.watches: set[_Watch] = set()
        self.changed = threading.Condition()

    def run(self) -> None:
        with self.changed:
            while True:
                pause = _LONGEST_SLEEP
                for watch in self.watches:
                    left = watch.left()
                    if left is None:
                        continue
                    if left <= 0:
                        _exit(watch.describe)
                    pause = min(pause, left)
                self.changed.wait(pause if self.watches else None)


def _exit(describe: Callable[[], str]) -> NoReturn:
    try:
        _report(describe())
    finally:
        os._exit(ExitCode.BROKEN)


def _report(why: str) -> None:
    """Write a line to stderr if that is possible at once: a reader that has stopped reading must not keep us alive."""
    line = f"etcdleader: {why}; ending the process (status {ExitCode.BROKEN})\n".encode(errors="replace")
    if select.select([], [2], [], 0)[1]:
        # os.write, not logging or print: their locks may be held by the very thread that is stuck.
        os.write(2, line)


_watchdog: _Watchdog | None = None


@contextmanager
def watch(left: Callable[[], float | None], describe: Callable[[], str]) -> Iterator[None]:
    """End the process when ``left()`` says 0 or less, until the block is left.

    Args:
        left: Seconds until the process must end; None: nothing to fear now. Called from the guard's thread.
        describe: One line for stderr that says why.
    """
    global _watchdog  # noqa: PLW0603 - one thread per process
    if _watchdog is None or _watchdog.process != process_id():
        _watchdog = _Watchdog()
        _watchdog.start()
    guard, watch = _watchdog, _Watch(left, describe)
    with guard.changed:
        guard.watches.add(watch)
        guard.changed.notify()
    try:
        yield
    finally:
        with guard.changed:
            guard.watches.discard(watch)
