"""Reads of many callers in one transaction: a linearizable read shows all of them the same moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeAlias

import anyio.lowlevel

from .._etcd.api import Range, TxnResult
from .._runtime.events import LightEvent
from .._runtime.limiter import FairLimiter
from .._runtime.tasks import spawn
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError

__all__ = ("Reads",)

ReadTogether: TypeAlias = Callable[[Sequence[Range], float], Awaitable[TxnResult]]
"""``await read(requests, timeout)``: in one linearizable transaction."""

_MOST = 16
"""Requests in one transaction, one of each caller. If thousands of keys are in one range, etcd reads all of them for each."""
_AT_A_TIME = 4
"""Such transactions at a time: no more callers are served at once than when each reads on its own."""


class _Batch:
    """What goes out together."""

    __slots__ = ("error", "over", "requests", "result")

    def __init__(self, requests: Sequence[Range]) -> None:
        self.requests = list(requests)
        self.result: TxnResult | None = None
        self.error: EtcdLeaderError | None = None
        self.over = LightEvent()


class Reads:
    """Where thousands have to read, those who wait for a turn anyway go together when it comes. A lone reader waits for
    nobody but whoever reads in the same pass of the event loop."""

    def __init__(self, read: ReadTogether, turns: FairLimiter) -> None:
        """Nothing is read yet.

        Args:
            read: Sends.
            turns: When.
        """
        self._read = read
        self._turns = turns
        self._batches = FairLimiter(_AT_A_TIME)
        self._gathering: dict[float, _Batch] = {}
        """By how long their readers wait for an answer: none waits longer because another one would."""

    async def read(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        """What these reads show at one moment after this call began.

        Raises:
            EtcdLeaderError: As of a read on its own.
        """
        while True:
            batch = self._gathering.get(timeout)
            if batch is None or len(batch.requests) + len(requests) > _MOST:
                batch, first = _Batch(requests), 0
                if await self._goes_alone(batch, timeout):
                    return await self._turns.run(partial(self._read, requests, timeout))
            else:
                first = len(batch.requests)
                batch.requests += requests
            await batch.over.wait()
            if batch.result is not None:
                return batch.result._replace(results=batch.result.results[first : first + len(requests)])
            if isinstance(batch.error, EtcdRefusedError):
                # One key that may not be read, and etcd refuses them all: that must not cost the others.
                return await self._turns.run(partial(self._read, requests, timeout))
            if batch.error is not None:
                raise copy(batch.error)  # one for each: they are raised in tasks of different campaigns
            # Whoever was to send it was cancelled: once more.

    async def _goes_alone(self, batch: _Batch, timeout: float) -> bool:
        """Whether nobody has come along in this pass of the loop, and a turn is free. Else the batch is on its way, in a task
        of its own: whichever of its readers goes, the others are served."""
        count = len(batch.requests)
        self._gathering[timeout] = batch
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            self._is_over(batch, timeout)
            raise
        if len(batch.requests) == count and self._turns.available_tokens > 0:
            self._close(batch, timeout)
            return True
        spawn(partial(self._send, batch, timeout), "etcdleader reads", partial(self._is_over, batch, timeout))
        return False

    async def _send(self, batch: _Batch, timeout: float) -> None:
        leave = partial(self._leave, batch, timeout)
        try:
            batch.result = await self._batches.run(lambda: self._turns.run(leave))
        except EtcdLeaderError as error:
            batch.error = error
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to those who read
            batch.error = EtcdUnavailableError(f"reading broke: {error!r}")

    async def _leave(self, batch: _Batch, timeout: float) -> TxnResult:
        self._close(batch, timeout)
        return await self._read(batch.requests, timeout)

    def _close(self, batch: _Batch, timeout: float) -> None:
        if self._gathering.get(timeout) is batch:
            del self._gathering[timeout]

    def _is_over(self, batch: _Batch, timeout: float) -> None:
        self._close(batch, timeout)
        batch.over.set()
