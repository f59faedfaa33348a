"""The steps that run in a term."""

from __future__ import annotations

import threading


class RunningSteps:
    """The running steps of one term. Any thread may change them."""

    __slots__ = ("_lock", "_refuses", "_steps")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[object, None] = {}
        self._refuses = False

    def __bool__(self) -> bool:
        return bool(self._steps)

    def begin(self, step: object) -> bool:
        """Add a step, or return False if no step may begin any more."""
        with self._lock:
            if self._refuses:
                return False
            self._steps[step] = None
            return True

    def end(self, step: object) -> bool:
        """Remove a step, if it is there. Return True if none runs, and none can begin any more."""
        with self._lock:
            self._steps.pop(step, None)
            return self._refuses and not self._steps

    def refuse(self) -> bool:
        """Let no step begin from now on. Return True if none runs."""
        with self._lock:
            self._refuses = True
            return not self._steps
