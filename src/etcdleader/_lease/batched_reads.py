"""Many callers' reads in one transaction. One linearizable transaction shows the same revision to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeAlias

import anyio.lowlevel

from .._etcd.api import Range, TxnResult
from .._runtime.events import Event
from .._runtime.limiter import FairLimiter
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError

ReadTogether: TypeAlias = Callable[[Sequence[Range], float], Awaitable[TxnResult]]
"""``await read(requests, timeout)`` sends all requests in one linearizable transaction."""

_MAX_READS_PER_TXN = 16
"""Requests in one transaction, one for each caller.

A larger transaction would be slow: for each request, etcd reads all keys of its range, and a range may have thousands.
"""
_CONCURRENT_TXNS = 4
"""Concurrent transactions. So at most as many callers are served at once as when each reads alone."""


class _Batch:
    """The requests of one shared transaction, and its result or error."""

    __slots__ = ("error", "over", "requests", "result")

    def __init__(self, requests: Sequence[Range]) -> None:
        self.requests = list(requests)
        self.result: TxnResult | None = None
        self.error: EtcdLeaderError | None = None
        self.over = Event()


class BatchedReads:
    """A batcher of concurrent reads.

    Reads that would queue for a slot of the limiter anyway are sent together in one transaction. A single read is delayed
    by one event-loop iteration only.
    """

    def __init__(self, read: ReadTogether, call_limiter: FairLimiter) -> None:
        """Send no read yet.

        Args:
            read: Sends the requests of one transaction.
            call_limiter: Limits the concurrent calls.
        """
        self._read = read
        self._call_limiter = call_limiter
        self._batches = FairLimiter(_CONCURRENT_TXNS)
        self._gathering: dict[float, _Batch] = {}
        """The open batches by timeout, so that no read waits longer than its own timeout."""

    async def read(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        """Return what these requests show at one revision, read after this call began.

        Raises:
            EtcdLeaderError: The same error as for a read that is sent alone.
        """
        while True:
            batch = self._gathering.get(timeout)
            if batch is None or len(batch.requests) + len(requests) > _MAX_READS_PER_TXN:
                batch, first = _Batch(requests), 0
                if await self._gather(batch, timeout):
                    return await self._call_limiter.run(partial(self._read, requests, timeout))
            else:
                first = len(batch.requests)
                batch.requests += requests
            await batch.over.wait()
            if batch.result is not None:
                return batch.result._replace(results=batch.result.results[first : first + len(requests)])
            if isinstance(batch.error, EtcdRefusedError):
                # etcd refuses the whole Txn if the user may not read one of its keys. The other readers must not fail.
                return await self._call_limiter.run(partial(self._read, requests, timeout))
            if batch.error is not None:
                raise copy(batch.error)  # one copy for each reader: they raise it in different tasks
            # The reader that was to send this batch was cancelled: start again.

    async def _gather(self, batch: _Batch, timeout: float) -> bool:
        """Gather reads for one event-loop iteration. Return True if no other has joined and the caller must send its own.

        Otherwise, start a task that sends the batch. If one of its readers is cancelled, the others are still served.
        """
        count = len(batch.requests)
        self._gathering[timeout] = batch
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            self._finish(batch, timeout)
            raise
        if len(batch.requests) == count and self._call_limiter.available_tokens > 0:
            self._close(batch, timeout)
            return True
        spawn_system_task(
            partial(self._send, batch, timeout), "etcdleader reads", partial(self._finish, batch, timeout)
        )
        return False

    async def _send(self, batch: _Batch, timeout: float) -> None:
        leave = partial(self._close_and_read, batch, timeout)
        try:
            batch.result = await self._batches.run(lambda: self._call_limiter.run(leave))
        except EtcdLeaderError as error:
            batch.error = error
        except Exception as error:  # noqa: BLE001 - no caller awaits this task: the readers receive the error
            batch.error = EtcdUnavailableError(f"a read failed unexpectedly: {error!r}")

    async def _close_and_read(self, batch: _Batch, timeout: float) -> TxnResult:
        self._close(batch, timeout)
        return await self._read(batch.requests, timeout)

    def _close(self, batch: _Batch, timeout: float) -> None:
        if self._gathering.get(timeout) is batch:
            del self._gathering[timeout]

    def _finish(self, batch: _Batch, timeout: float) -> None:
        self._close(batch, timeout)
        batch.over.set()
