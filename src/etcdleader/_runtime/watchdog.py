"""The thread that ends the process when work outlives its lease and nothing else can stop it.

A blocked event loop cannot cancel its tasks, and work may swallow its cancellation. So one daemon thread per process
compares the clock with the deadline of each watched term. It is started at its first use. It needs the GIL: a C call
that never releases the GIL blocks this thread, too.
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

_MAX_SLEEP_SECONDS = 1.0
"""Threads sleep on a clock that does not count suspend, but leases expire during suspend."""


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
                pause = _MAX_SLEEP_SECONDS
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
    """Write a line to stderr, unless that would block: a full pipe must not keep this process alive."""
    line = f"etcdleader: {why}; ending the process (status {ExitCode.BROKEN})\n".encode(errors="replace")
    if select.select([], [2], [], 0)[1]:
        # os.write, because the blocked thread may hold the locks of logging or print.
        os.write(2, line)


_watchdog: _Watchdog | None = None


@contextmanager
def watch(left: Callable[[], float | None], describe: Callable[[], str]) -> Iterator[None]:
    """End the process if ``left()`` returns 0 or less before the block is left.

    Args:
        left: Returns the seconds until the process must end; None if there is no deadline now. It is called in the
            watchdog's thread.
        describe: Returns the reason, in one line for stderr.
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
