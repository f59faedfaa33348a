"""Threads beside a loop on virtual time, which does not wait for them by itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

__all__ = ("group_of_threads", "threads_have")

_PATIENCE = 60.0
"""Real seconds: far more than any thread takes here."""


async def threads_have(reached: Callable[[], Any]) -> None:
    """Wait until threads have reached a condition. Other tasks run meanwhile, but no virtual time passes."""
    give_up_at = time.monotonic() + _PATIENCE
    while not reached():
        assert time.monotonic() < give_up_at, "a thread does not get there"
        time.sleep(0.0005)  # noqa: ASYNC251 - in real time: this task stays ready, so that virtual time stands still
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def group_of_threads(release: Callable[[], object]) -> AsyncIterator[TaskGroup]:
    """A task group that ends its threads with the block, so that a test that fails does not wait for them."""
    async with anyio.create_task_group() as group:
        try:
            yield group
        finally:
            release()
