"""Threads beside a loop on virtual time, which does not wait for them by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio

__all__ = ("threads_have",)

_PATIENCE = 20.0
"""Real seconds: far more than any thread takes here."""


async def threads_have(reached: Callable[[], Any]) -> None:
    """Wait until threads have reached a condition. Other tasks run meanwhile, but no virtual time passes."""
    give_up_at = time.monotonic() + _PATIENCE
    while not reached():
        assert time.monotonic() < give_up_at, "a thread does not get there"
        time.sleep(0.0005)  # noqa: ASYNC251 - in real time: this task stays ready, so that virtual time stands still
        await anyio.lowlevel.checkpoint()
