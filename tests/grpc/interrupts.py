"""Lines in which trio would raise KeyboardInterrupt if Ctrl-C were pressed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import trio


@contextmanager
def unprotected_lines() -> Iterator[set[str]]:
    """Collect ``task: file:line`` of each line that runs unprotected, in a task that does not descend from trio's main task.

    KeyboardInterrupt in such a line would end the program with an "internal error in Trio".
    """
    main = ancestors(trio.lowlevel.current_task())[-1]
    found: set[str] = set()
    looking = False

    def look(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal looking
        del event, argument
        if not looking:
            looking = True
            try:
                task = trio.lowlevel.current_task()
                if main not in ancestors(task) and not trio.lowlevel.currently_ki_protected():
                    found.add(f"{task.name}: {frame.f_code.co_filename}:{frame.f_lineno}")
            except RuntimeError:
                pass  # in no task
            finally:
                looking = False
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield found
    finally:
        sys.settrace(before)


def ancestors(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """Return the task and its parents up to the child of trio's root task."""
    found = [task]
    while (nursery := found[-1].parent_nursery) is not None:
        found.append(nursery.parent_task)
    return found[:-1] or found
