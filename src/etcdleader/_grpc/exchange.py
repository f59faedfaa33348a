"""The state of one HTTP/2 stream: a unary call or a bidirectional stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .._runtime.events import Event
from . import limits
from .framing import MessageDecoder, RpcError, Status, not_grpc

_NONE: Mapping[str, str] = {}


class Exchange:
    """An open HTTP/2 stream, as its connection tracks it.

    Attributes:
        sent_at: The time when data was last sent.
        headers: The headers of the response.
        trailers: The trailers, which ended the response.
        messages: The number of received messages.
        buffered: The bytes of an incomplete message, as the connection has counted them.
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
        """Store headers that do not end the stream. Return an error status if they are wrong, else None."""
        self._blocks += 1
        if self.headers or self._blocks >= limits.MAX_HEADER_BLOCKS:
            return Status("INTERNAL", "the peer sent more header blocks than a response has")
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
            RpcError: The call failed, or its response is not exactly one message.
        """
        assert self.status is not None
        if self.status.code != "OK":
            raise RpcError(self.status)
        if len(self.messages) != 1:
            raise RpcError(Status("INTERNAL", f"{len(self.messages)} responses to one request"))
        return self.messages[0]


class Stream:
    """A stream of messages in both directions. ``Connection.stream_stream`` opens one."""

    __slots__ = ("_cancel", "_send")

    def __init__(self, send: Callable[..., None], cancel: Callable[[], None]) -> None:
        self._send = send
        self._cancel = cancel

    def send(self, *messages: bytes) -> None:
        """Send messages together, after the earlier ones. Messages for a stream that has ended are dropped."""
        self._send(*messages)

    def cancel(self) -> None:
        """End the stream without calling ``on_close``.

        If nothing has been received on the connection since this stream last sent, the connection is considered dead
        and is closed. A new stream on it would fail as well.
        """
        self._cancel()
