"""Keep-alives of many leases on one stream.

Responses carry no request id. A response is credited to the oldest unanswered keep-alive of its lease on its stream. There
is at most one such keep-alive, and if it receives no response in time, the stream ends. Otherwise, a late response to an
earlier keep-alive would be credited to a later one. The lease would then be considered valid for too long.

Current servers authorize each keep-alive against the keys of its lease, one after another, and close the stream at the first
refusal. So the refused lease is the oldest unanswered one on the stream. Only that lease fails. The remaining keep-alives
are sent again on a new stream. Their send time stays the first one, which is the safe choice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from .._runtime.events import Event
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import KeepAlive, KeepAliveResponses
from .auth import MAX_LOGINS
from .error_mapping import GoingAwayError, InvalidAuthTokenError
from .messages import LeaseKeepAliveRequest
from .stream import RpcStream

OpenStream = Callable[[Callable[[Any], None], Callable[[EtcdLeaderError], None], float], Awaitable[RpcStream]]
"""``await open_stream(on_message, on_end, timeout)``."""


@dataclass(eq=False)
class _Batch:
    """The keep-alives of one call.

    Attributes:
        waiting: The leases without a response, in sending order.
        answers: The responses, and the errors of the leases that failed.
        over: Set when no lease waits for a response, or the stream has ended.
        logins: The number of times that etcd refused the stream's token.
        moved: Whether the keep-alives were sent again because the member closed the connection gracefully.
    """

    waiting: dict[int, None]
    answers: KeepAliveResponses = field(default_factory=KeepAliveResponses)
    over: Event = field(default_factory=Event)
    logins: int = 0
    was_resent: bool = False

    def fail(self, error: EtcdLeaderError) -> None:
        """Fail all leases that have no response."""
        self.answers.errors.update(dict.fromkeys(self.waiting, error))
        self.waiting.clear()
        self.over.set()


class KeepAliveStream:
    """The keep-alive stream of a connection, opened on demand."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._stream: RpcStream | None = None
        self._opening = anyio.Lock()
        self._batches: dict[int, _Batch] = {}
        """The batch of each lease that waits for a response, in sending order."""

    async def send(self, lease_ids: Sequence[int], timeout: float) -> KeepAliveResponses:
        """Send one keep-alive for each lease, back to back. Return a response or an error for each."""
        this = _Batch(dict.fromkeys(lease_ids))
        try:
            with anyio.move_on_after(timeout):
                await self._renew(this, timeout)
        finally:
            if this.waiting:
                self._give_up(this, timeout)
        return this.answers

    async def _renew(self, this: _Batch, timeout: float) -> None:
        while this.waiting:
            try:
                stream = await self._opened(timeout)
            except EtcdLeaderError as error:
                this.fail(error)
                return
            # No await comes before the send, so that each lease's send time is that of its keep-alive.
            this.over = Event()
            self._batches.update(dict.fromkeys(this.waiting, this))
            stream.send(*map(LeaseKeepAliveRequest, this.waiting))
            await this.over.wait()

    async def _opened(self, timeout: float) -> RpcStream:
        if self._stream is None:
            async with self._opening:
                if self._stream is None:
                    self._stream = await self._open_stream(self._answered, self._ended, timeout)
                return self._stream
        return self._stream

    def _give_up(self, this: _Batch, timeout: float) -> None:
        sent = False
        for lease_id in this.waiting:
            sent |= self._batches.pop(lease_id, None) is not None
        this.fail(EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s"))
        if sent:
            self.end(EtcdUnavailableError("etcd did not answer another keep-alive on the same stream in time"))

    def end(self, error: EtcdLeaderError) -> None:
        """End the stream. Its unanswered keep-alives receive no response. The next keep-alive opens a new stream."""
        if self._stream is not None:
            self._stream.end(error)

    @property
    def stream(self) -> RpcStream | None:
        """The stream, while it is open."""
        return self._stream

    @property
    def waits(self) -> bool:
        """True while a sent keep-alive has no response."""
        return bool(self._batches)

    def _answered(self, message: KeepAlive) -> None:
        this = self._batches.pop(message.lease_id, None)
        if this is None:
            return
        del this.waiting[message.lease_id]
        this.answers[message.lease_id] = message
        if not this.waiting:
            this.over.set()

    def _ended(self, error: EtcdLeaderError) -> None:
        self._stream = None
        rounds, self._batches = self._batches, {}
        if not rounds:
            return
        waiting = dict.fromkeys(rounds.values())
        if type(error) is EtcdRefusedError:  # not a subclass: those concern the whole connection
            refused, this = next(iter(rounds.items()))
            del this.waiting[refused]
            this.answers.errors[refused] = error
        for this in waiting:
            if isinstance(error, InvalidAuthTokenError) and this.logins < MAX_LOGINS:
                this.logins += 1
            elif isinstance(error, GoingAwayError) and not this.was_resent:
                this.was_resent = True
            elif type(error) is not EtcdRefusedError:
                this.fail(error)
            this.over.set()
