"""One bidirectional stream: written in order; each message it brings is handed on, on the event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from .._grpc import Connection, Metadata, Status
from .._grpc import Stream as GrpcStream
from .._runtime.tasks import CallSoon
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .rpcs import Rpc

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
        except Exception as error:  # noqa: BLE001 - no caller waits here, and trio ends a program whose callback raises
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """End the stream because one of its messages could not be processed. A new stream begins with a clean state."""
        failure = EtcdUnavailableError(f"a message of etcd could not be processed: {error!r}")
        failure.__cause__ = error
        self.end(failure)


class Http2Stream(Stream):
    """On a connection of ours."""

    def __init__(
        self,
        rpc: Rpc[Any, Any],
        metadata: Metadata,
        use: StreamUse,
        endpoint: str,
        error_of: Callable[[Status], EtcdLeaderError],
        connection: Connection,
    ) -> None:
        """Open it, on a connection that is open.

        Args:
            rpc: What is called.
            metadata: What goes with it.
            use: What it is opened for.
            endpoint: The name of the member, for errors.
            error_of: Returns what the status of a stream that failed means.
            connection: The one to open it on.

        Raises:
            RpcError: The member allows no more streams.
        """
        super().__init__(metadata, use)
        self.ended = connection.ended
        self._endpoint = endpoint
        self._error_of = error_of
        self._rpc = rpc
        self._stream: GrpcStream | None = None  # this one may be over before it is open
        self._stream = connection.stream_stream(
            rpc.path, metadata=(*metadata, HAS_LEADER), on_message=self._received, on_close=self._closed
        )

    def send(self, *requests: Any) -> None:
        """Send messages after those before them."""
        if self._stream is not None:
            self._stream.send(*map(self._rpc.encode, requests))

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

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
            self.end(self._error_of(status))
