"""Calls of a manager that are repeated while etcd does not respond."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio.lowlevel

from etcdleader import EtcdUnavailableError

__all__ = ("answered",)

Result = TypeVar("Result")


async def answered(call: Callable[[], Awaitable[Result]]) -> Result:
    """Call until etcd responds. Return the result.

    A call of a manager gives up after ``retry``. On a busy machine, this process or etcd may stand still for longer. The
    caller limits the time with ``anyio.fail_after``.
    """
    while True:
        try:
            return await call()
        except EtcdUnavailableError:
            await anyio.lowlevel.checkpoint()
