"""Keep-alives of many leases on one stream.

Answers carry no request's id: an answer counts for the oldest unanswered keep-alive of its lease on its stream. There
is one at most, and when it is not answered in time the stream ends with it. Otherwise a late answer to an older
keep-alive would be taken for the answer to a younger one, and the lease believed for too long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from .._runtime.events import LightEvent
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .api import KeepAlive
from .messages import LeaseKeepAliveRequest
from .stream import Stream

__all__ = ("KeepAlives", "OpenStream")

OpenStream = Callable[[Callable[[Any], None], Callable[[EtcdLeaderError], None], float], Awaitable[Stream]]
"""``await open_stream(on_message, on_end, timeout)``."""


@dataclass(eq=False)
class _Round:
    waiting: set[int]
    answers: dict[int, KeepAlive] = field(default_factory=dict)
    over: LightEvent = field(default_factory=LightEvent)
    error: EtcdLeaderError | None = None


class KeepAlives:
    """The keep-alive stream of a connection, opened when it is needed."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._stream: Stream | None = None
        self._opening = anyio.Lock()
        self._rounds: dict[int, _Round] = {}

    async def send(self, lease_ids: Sequence[int], timeout: float) -> Mapping[int, KeepAlive]:
        """One keep-alive for each lease, back to back.

        Raises:
            EtcdUnavailableError: Not one answer came.
        """
        this = _Round(set(lease_ids))
        try:
            with anyio.move_on_after(timeout):
                if (stream := self._stream) is None:
                    async with self._opening:
                        stream = self._stream = self._stream or await self._open_stream(
                            self._answered, self._ended, timeout
                        )
                # Nothing is awaited in between, so that each lease's send time is that of its keep-alive.
                self._rounds.update(dict.fromkeys(lease_ids, this))
                stream.send(*[LeaseKeepAliveRequest(lease_id) for lease_id in lease_ids])
                await this.over.wait()
        finally:
            if this.waiting and this.error is None and this in self._rounds.values():
                self.end(EtcdUnavailableError("a keep-alive on the same stream was not answered in time"))
        if not this.answers:
            raise this.error or EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        return this.answers

    def end(self, error: EtcdLeaderError) -> None:
        """End the stream; what waits for answers on it gets none. The next keep-alive opens another."""
        if self._stream is not None:
            self._stream.end(error)

    @property
    def stream(self) -> Stream | None:
        """The stream, while it is open."""
        return self._stream

    def _answered(self, message: KeepAlive) -> None:
        this = self._rounds.pop(message.lease_id, None)
        if this is None:
            return
        this.waiting.discard(message.lease_id)
        this.answers[message.lease_id] = message
        if not this.waiting:
            this.over.set()

    def _ended(self, error: EtcdLeaderError) -> None:
        self._stream = None
        rounds, self._rounds = set(self._rounds.values()), {}
        for this in rounds:
            this.error = error
            this.over.set()
