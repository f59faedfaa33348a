"""A bidirectional stream. Requests are sent in order; each received message is delivered on the event loop."""

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
"""Metadata without which a member that lost its leader would keep the stream open, but send nothing."""


@dataclass(frozen=True, slots=True)
class StreamCallbacks:
    """The callbacks of a stream.

    Attributes:
        check: Returns an error if a message is wrong. The stream then ends with that error.
        on_message: Receives each message.
        on_end: Called once, with the reason why the stream ended.
        call_soon: Schedules a function on the event loop, from any thread.
    """

    check: Callable[[Any], EtcdLeaderError | None]
    on_message: Callable[[Any], None]
    on_end: Callable[[EtcdLeaderError], None]
    call_soon: CallSoon


class RpcStream(ABC):
    """A stream that is open until it breaks or is ended. It delivers no message after that.

    Attributes:
        metadata: The metadata that it was opened with.
        closed: Set when the thread or connection that it uses has ended, which may be long after the stream's end.
    """

    closed: anyio.Event

    def __init__(self, metadata: Metadata, use: StreamCallbacks) -> None:
        self.metadata = metadata
        self._use = use
        self._open = True

    @abstractmethod
    def send(self, *requests: Any) -> None:
        """Send messages, in order."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Cancel the stream."""

    def end(self, error: EtcdLeaderError) -> None:
        """End the stream. The first call passes ``error`` to ``on_end``; later calls are no-ops."""
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
        except Exception as error:  # noqa: BLE001 - no caller awaits this, and trio ends a program if a callback raises
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """End the stream because one of its messages could not be processed. A new stream starts with a clean state."""
        failure = EtcdUnavailableError(f"a message from etcd could not be processed: {error!r}")
        failure.__cause__ = error
        self.end(failure)


class Http2Stream(RpcStream):
    """A stream on etcdleader's own HTTP/2 connection."""

    def __init__(
        self,
        rpc: Rpc[Any, Any],
        metadata: Metadata,
        use: StreamCallbacks,
        endpoint: str,
        error_of: Callable[[Status], EtcdLeaderError],
        connection: Connection,
    ) -> None:
        """Open the stream on an open connection.

        Args:
            rpc: The RPC.
            metadata: The metadata to send.
            use: The stream's callbacks.
            endpoint: The name of the member, for errors.
            error_of: Maps the status of a failed stream to an error.
            connection: The open connection.

        Raises:
            RpcError: The member allows no more streams.
        """
        super().__init__(metadata, use)
        self.closed = connection.ended
        self._endpoint = endpoint
        self._error_of = error_of
        self._rpc = rpc
        self._stream: GrpcStream | None = None  # the stream may end before ``stream_stream`` returns
        self._stream = connection.stream_stream(
            rpc.path, metadata=(*metadata, HAS_LEADER), on_message=self._received, on_close=self._closed
        )

    def send(self, *requests: Any) -> None:
        """Send messages, in order."""
        if self._stream is not None:
            self._stream.send(*map(self._rpc.encode, requests))

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _received(self, serialized: bytes) -> None:
        try:
            message = self._rpc.decode(serialized)
        except Exception as error:  # noqa: BLE001 - whatever protobuf raises, the message is malformed
            self.end(EtcdUnavailableError(f"{self._endpoint}: a message cannot be read: {error}"))
        else:
            self._take(message)

    def _closed(self, status: Status) -> None:
        if status.code == "OK":
            self.end(EtcdUnavailableError("etcd ended the stream"))
        else:
            self.end(self._error_of(status))
