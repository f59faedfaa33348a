"""The number of steps that run in a term."""

from __future__ import annotations

import threading


class StepCounter:
    """Counts the running steps of one term. Any thread may call it."""

    __slots__ = ("_lock", "_refuses", "_running")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._refuses = False

    @property
    def running(self) -> int:
        """The number of steps that run."""
        return self._running

    def begin(self) -> bool:
        """Count a step, or return False if no step may begin any more."""
        with self._lock:
            if self._refuses:
                return False
            self._running += 1
            return True

    def end(self) -> bool:
        """Count the end of a step. Return True if it was the last one of all."""
        with self._lock:
            self._running -= 1
            return self._refuses and not self._running

    def refuse(self) -> bool:
        """Let no step begin from now on. Return True if none runs."""
        with self._lock:
            self._refuses = True
            return not self._running
