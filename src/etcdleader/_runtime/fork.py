"""Forks: an identifier of this process, and the steps that a forked child runs first."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum


class AtFork(IntEnum):
    """The steps of a forked child, in order. The order does not depend on the order of imports."""

    IDENTITY = 0
    """The child records that it is another process. The later steps may call ``process_id``."""
    SOCKETS = 1
    """It detaches its inherited sockets, so that it sends nothing in the parent's name."""
    CONNECTIONS = 2
    """It discards the shared connections, and with them the parent's leases."""
    MANAGERS = 3
    """It replaces the lock of the threads that reset managers."""
    BACKGROUND_LOOP = 4
    """It drops the parent's background loop, whose thread it does not have."""


_this = (os.getpid(), 0)
"""The pid, and the number of forks between the first process and this one."""
_steps: dict[AtFork, Callable[[], None]] = {}


def on_fork(step: AtFork, action: Callable[[], None]) -> None:
    """Register the action that each forked child runs as this step.

    A step has one action. If it raises an exception, the later steps still run.
    """
    assert step not in _steps, step
    _steps[step] = action


def _forked() -> None:
    errors: list[Exception] = []
    for step in sorted(_steps):
        try:
            _steps[step]()
        except Exception as error:  # noqa: BLE001 - raised below, when all steps are done
            errors.append(error)
    if errors:
        raise errors[0]  # the interpreter reports it, and the fork succeeds


def _become_another() -> None:
    global _this  # noqa: PLW0603 - one per process
    _this = (os.getpid(), _this[1] + 1)


on_fork(AtFork.IDENTITY, _become_another)
# The pid alone is not enough: in another pid namespace, or after many forks, a child can have its ancestor's pid.
# The count alone is not enough either: a C extension that forks by itself does not run the hook.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def process_id() -> tuple[int, int]:
    """Return this process's identifier. It is equal for two calls only if both are made in the same process."""
    pid = os.getpid()
    return _this if _this[0] == pid else (pid, _this[1])
