"""Reads of many candidacies in one transaction: a linearizable read shows all of them the same moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import anyio.lowlevel

from ._etcd.api import Range, TxnResult
from ._loop import LightEvent
from ._rounds import MAX_KEYS_PER_READ
from ._turns import Turns
from .errors import EtcdLeaderError, EtcdRefusedError

__all__ = ("Reads",)

ReadTogether: TypeAlias = Callable[[Sequence[Range], float], Awaitable[TxnResult]]
"""``await read(requests, timeout)``: in one linearizable transaction."""


class _Batch:
    """What goes out together. Its first reader sends it; the others wait for what becomes of it."""

    __slots__ = ("error", "over", "requests", "result")

    def __init__(self) -> None:
        self.requests: list[Range] = []
        self.result: TxnResult | None = None
        self.error: EtcdLeaderError | None = None
        self.over = LightEvent()


class Reads:
    """Where thousands have to read, those who wait for a turn anyway go together when it comes. A lone reader waits for
    nobody but whoever reads in the same pass of the event loop."""

    def __init__(self, read: ReadTogether, turns: Turns) -> None:
        """Nothing is read yet.

        Args:
            read: Sends.
            turns: When.
        """
        self._read = read
        self._turns = turns
        self._gathering: dict[float, _Batch] = {}
        """By how long their readers wait for an answer: none waits longer because another one would."""

    async def read(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        """What these reads show at one moment after this call began.

        Raises:
            EtcdLeaderError: As of a read on its own.
        """
        while True:
            batch = self._gathering.get(timeout)
            if batch is None or len(batch.requests) + len(requests) > MAX_KEYS_PER_READ:
                return await self._send(requests, timeout)
            first = len(batch.requests)
            batch.requests += requests
            await batch.over.wait()
            if batch.result is not None:
                return _part(batch.result, first, len(requests))
            if isinstance(batch.error, EtcdRefusedError):
                # One key that may not be read, and etcd refuses them all: that must not cost the others.
                return await self._alone(requests, timeout)
            if batch.error is not None:
                raise batch.error
            # Who was to send it was cancelled.

    async def _send(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        batch = self._gathering[timeout] = _Batch()
        batch.requests += requests
        try:
            await anyio.lowlevel.checkpoint()  # whoever reads in this pass of the loop goes along
            await self._turns.take()
            self._close(batch, timeout)
            batch.result = await self._in_turn(batch.requests, timeout)
        except EtcdLeaderError as error:
            batch.error = error
            if isinstance(error, EtcdRefusedError) and len(batch.requests) > len(requests):
                return await self._alone(requests, timeout)
            raise
        finally:
            self._close(batch, timeout)
            batch.over.set()
        return _part(batch.result, 0, len(requests))

    async def _alone(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        await self._turns.take()
        return await self._in_turn(requests, timeout)

    async def _in_turn(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        answered = False
        try:
            result = await self._read(requests, timeout)
            answered = True
        finally:
            self._turns.give_back(answered=answered)
        return result

    def _close(self, batch: _Batch, timeout: float) -> None:
        if self._gathering.get(timeout) is batch:
            del self._gathering[timeout]


def _part(whole: TxnResult, first: int, count: int) -> TxnResult:
    if len(whole.results) == count:
        return whole
    return replace(whole, results=whole.results[first : first + count])
