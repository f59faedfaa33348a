"""Processes inside one event loop: each task and callback belongs to one, and a frozen one does not run.

A task inherits its process from the task that starts it, by a context variable. Both loops keep the tasks that are
ready to run in a deque. Here it is one that holds back those of a frozen process.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import trio

from etcdleader._runtime import tasks
from etcdleader.testing.virtual_time import VirtualTimeLoop

__all__ = ("PROCESS", "FreezableLoop", "Freezer", "freezable")

PROCESS: contextvars.ContextVar[str | None] = contextvars.ContextVar("process", default=None)
"""The name of the process to which the running code belongs. None: the network, etcd, or the simulator."""


class Freezer:
    """The set of frozen processes, and what would run in them."""

    def __init__(self) -> None:
        self._frozen: dict[str, list[Any]] = {}
        self.ready: _Ready | None = None

    def is_frozen(self, process: str) -> bool:
        """Return whether a process is frozen."""
        return process in self._frozen

    def freeze(self, process: str) -> None:
        """Stop a process, as SIGSTOP does. On trio, each of its tasks may still run one step."""
        if process not in self._frozen:
            self._frozen[process] = []
            assert self.ready is not None
            self.ready.withdraw()

    def thaw(self, process: str) -> None:
        """Continue a process, as SIGCONT does. All that became ready meanwhile runs now, in order."""
        held = self._frozen.pop(process, [])
        assert self.ready is not None
        self.ready.extend(held)

    def hold(self, item: Any) -> bool:
        """Keep a task or callback back if its process is frozen, and return whether it is."""
        if not self._frozen or (held := self._frozen.get(_process_of(item))) is None:
            return False
        held.append(item)
        return True


def _process_of(item: Any) -> Any:
    context = item.context if isinstance(item, trio.lowlevel.Task) else item._context
    return context.get(PROCESS)


class _Ready(deque[Any]):
    """The queue of a loop's ready tasks or callbacks."""

    def __init__(self, freezer: Freezer) -> None:
        super().__init__()
        self._freezer = freezer
        freezer.ready = self

    def append(self, item: Any) -> None:
        if not self._freezer.hold(item):
            super().append(item)

    def popleft(self) -> Any:
        # asyncio takes as many callbacks as there were. Some may have been withdrawn since.
        return super().popleft() if self else _NOTHING

    def withdraw(self) -> None:
        """Hold back the items whose process has just been frozen."""
        items = list(self)
        self.clear()
        for item in items:
            self.append(item)


class _Nothing:
    _cancelled = True


_NOTHING = _Nothing()


class FreezableLoop(VirtualTimeLoop):
    """An asyncio loop on virtual time whose callbacks can be held back. ``freezer`` does it."""

    def __init__(self) -> None:
        super().__init__()
        self.freezer = Freezer()
        self._ready = _Ready(self.freezer)


@contextmanager
def freezable() -> Iterator[Freezer]:
    """Yield the freezer of the running loop. The tasks that the library starts belong to their starter's process."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        freezer = Freezer()
        trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq = _Ready(freezer)
        spawn = trio.lowlevel.spawn_system_task

        def spawn_in_process(function: Any, *arguments: Any, name: Any = None) -> Any:
            return spawn(function, *arguments, name=name, context=contextvars.copy_context())

        with patch.object(trio.lowlevel, "spawn_system_task", spawn_in_process):
            yield freezer
    else:
        assert isinstance(loop, FreezableLoop)
        with patch.object(tasks, "system_task_context", contextvars.copy_context):
            yield loop.freezer
