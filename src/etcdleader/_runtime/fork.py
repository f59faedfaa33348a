"""What is asked of the operating system: the clock that counts suspend, and which process this is."""

from __future__ import annotations

import os
import time

__all__ = ("boottime", "process_id")

_this = (os.getpid(), 0)
"""The pid, and how many forks led here."""


def _forked() -> None:
    global _this  # noqa: PLW0603 - one per process
    _this = (os.getpid(), _this[1] + 1)


# The pid alone is not enough: in another pid namespace, or after many forks, a child can have its ancestor's pid.
# The count alone is not enough either: a C extension that forks by itself does not run the hook.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def process_id() -> tuple[int, int]:
    """A value that is equal for two calls only if they were made in the same process."""
    pid = os.getpid()
    return _this if _this[0] == pid else (pid, _this[1])


if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Seconds on a clock that never steps and goes on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boottime() -> float:
        """Seconds on the best clock there is here. ``time.monotonic`` may stand still while the machine sleeps, so a
        process that was suspended may believe in its lease for too long: see the operating notes."""
        return time.monotonic()
