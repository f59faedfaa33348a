"""Run a coroutine function on virtual time, outside pytest's fixtures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import anyio
import trio

from etcdleader.testing.virtual_time import virtual_backend

__all__ = ("run_virtually",)

T = TypeVar("T")


def run_virtually(function: Callable[[], Awaitable[T]], backend: Literal["asyncio", "trio"]) -> T:
    """Run ``function`` in a new loop whose time jumps to the next event, and return its result."""
    name, options = virtual_backend(backend)
    if name == "trio":  # anyio before 4.14 passes no options to trio, and the loop would run in real time
        return trio.run(function, **options)
    return anyio.run(function, backend=name, backend_options=dict(options))
