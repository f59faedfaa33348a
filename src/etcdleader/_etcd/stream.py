"""One bidirectional stream: written in order; each message it brings is handed on, on the event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from .._grpc.connection import Http2
from .._grpc.framing import Metadata, Status
from .._runtime.tasks import CallSoon
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .error_mapping import translated
from .rpcs import Rpc

__all__ = ("HAS_LEADER", "Http2Stream", "Stream", "StreamUse")

HAS_LEADER = ("hasleader", "true")
"""Without it, a member that lost its leader would keep the stream open, and silent."""


@dataclass(frozen=True, slots=True)
class StreamUse:
    """What a stream is opened for.

    Attributes:
        check: Says what is wrong with a message, if anything: then the stream ends with that.
        on_message: Takes each message.
        on_end: Told once, why it ended.
        call_soon: The way to the loop, from wherever.
    """

    check: Callable[[Any], EtcdLeaderError | None]
    on_message: Callable[[Any], None]
    on_end: Callable[[EtcdLeaderError], None]
    call_soon: CallSoon


class Stream(ABC):
    """It lives until it breaks or is closed; nothing is delivered after that.

    Attributes:
        metadata: What it was opened with.
        ended: Set when nothing of it runs any more.
    """

    ended: anyio.Event

    def __init__(self, metadata: Metadata, use: StreamUse) -> None:
        """Make one."""
        self.metadata = metadata
        self._use = use
        self._open = True

    @abstractmethod
    def send(self, *requests: Any) -> None:
        """Send messages after those before them."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Nothing more is wanted of it."""

    def end(self, error: EtcdLeaderError) -> None:
        """End it; ``on_end`` is told why, once."""
        if self._open:
            self._open = False
            self._hang_up()
            self._use.on_end(error)

    def _take(self, message: Any) -> None:
        try:
            if (wrong := self._use.check(message)) is not None:
                self.end(wrong)
            else:
                self._use.on_message(message)
        except Exception as error:  # noqa: BLE001 - raised below, where it holds up none of the messages after it
            self._use.call_soon(_raise, error)


class Http2Stream(Stream):
    """On a connection of ours."""

    def __init__(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamUse, endpoint: str, connection: Http2
    ) -> None:
        """Open it, on a connection that is open.

        Raises:
            EtcdUnavailableError: The member allows no more streams.
        """
        super().__init__(metadata, use)
        self.ended = connection.ended
        self._endpoint = endpoint
        self._connection = connection
        self._rpc = rpc
        self._number = 0  # of no stream: this one may be over before it is open
        number = connection.open(rpc.path, (*metadata, HAS_LEADER), self._received, self._closed)
        if number is None:
            raise EtcdUnavailableError(f"{endpoint}: no stream: the member allows no more of them")
        self._number = number

    def send(self, *requests: Any) -> None:
        """Send messages after those before them."""
        self._connection.send(self._number, *map(self._rpc.encode, requests))

    def _hang_up(self) -> None:
        self._connection.leave(self._number)

    def _received(self, serialized: bytes) -> None:
        try:
            message = self._rpc.decode(serialized)
        except Exception as error:  # noqa: BLE001 - of protobuf: what comes from there is not what it should be
            self.end(EtcdUnavailableError(f"{self._endpoint}: a message that cannot be read: {error}"))
        else:
            self._take(message)

    def _closed(self, status: Status) -> None:
        if status.code == "OK":
            self.end(EtcdUnavailableError("etcd ended the stream"))
        else:
            self.end(translated(status.code, status.details, self._endpoint))


def _raise(error: Exception) -> None:
    """In a callback of the loop's own, which tells it as it tells all."""
    raise error
