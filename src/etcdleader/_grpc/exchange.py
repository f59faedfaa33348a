"""What takes place on one HTTP/2 stream of a connection: a unary call, or messages in both directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .._runtime.events import Event
from . import limits
from .framing import MessageDecoder, RpcError, Status, not_grpc

_NONE: Mapping[str, str] = {}


class Exchange:
    """An HTTP/2 stream that is open, as its connection tracks it.

    Attributes:
        sent_at: When data was sent last.
        headers: Those of the response.
        trailers: Those that ended it.
        messages: How many were received.
        buffered: Bytes of an incomplete message, as the connection has counted them.
    """

    __slots__ = (
        *("headers", "buffered", "is_call", "messages", "on_close", "on_message", "sent_at", "decoder", "trailers"),
        "_blocks",
    )

    def __init__(
        self,
        on_message: Callable[[bytes], None],
        on_close: Callable[[Status], None],
        *,
        is_call: bool,
        max_recv_bytes: int,
    ) -> None:
        self.on_message = on_message
        self.on_close = on_close
        self.is_call = is_call
        self.decoder = MessageDecoder(max_recv_bytes)
        self.sent_at = -math.inf
        self.headers = self.trailers = _NONE
        self.messages = self.buffered = self._blocks = 0

    def receive_headers(self, headers: Mapping[str, str]) -> Status | None:
        """Keep headers after which more follows, and return what is wrong with them, if anything."""
        self._blocks += 1
        if self.headers or self._blocks >= limits.HEADER_LISTS:
            return Status("INTERNAL", "the peer sent more headers than a response has")
        if headers.get(":status", "")[:1] == "1":  # informational
            return None
        self.headers = headers
        return not_grpc(headers)


class Call:
    """The response to a unary call, as it arrives."""

    __slots__ = ("messages", "over", "status")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.status: Status | None = None
        self.over = Event()

    def end(self, status: Status) -> None:
        """Record how the call ended and wake the caller."""
        self.status = status
        self.over.set()

    def result(self) -> bytes:
        """Return the response of a call that has ended.

        Raises:
            RpcError: It failed, or its response is not exactly one message.
        """
        assert self.status is not None
        if self.status.code != "OK":
            raise RpcError(self.status)
        if len(self.messages) != 1:
            raise RpcError(Status("INTERNAL", f"{len(self.messages)} answers to one request"))
        return self.messages[0]


class Stream:
    """A stream of messages in both directions. ``Connection.stream_stream`` opens one."""

    __slots__ = ("_cancel", "_send")

    def __init__(self, send: Callable[..., None], cancel: Callable[[], None]) -> None:
        self._send = send
        self._cancel = cancel

    def send(self, *messages: bytes) -> None:
        """Send messages after the earlier ones, together. Messages for a stream that has ended are dropped."""
        self._send(*messages)

    def cancel(self) -> None:
        """End the stream without calling ``on_close``.

        If nothing has been received on the connection since this stream last sent, the connection itself is considered
        dead and is closed: a new stream on it would fare no better.
        """
        self._cancel()
