"""gRPC over HTTP/2: framing of messages, headers of requests, status of calls. Pure.

It follows gRPC's page "gRPC over HTTP2" (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from .hpack import encode_headers

Metadata = tuple[tuple[str, str], ...]
"""A call's headers, as pairs of names and values."""

_GRPC = "application/grpc"
_PREFIX_BYTES = 5
"""The number of bytes before each message: the compressed flag and the length."""
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""gRPC's status codes, by their numbers."""
_MAX_STATUS_DIGITS = 10
"""The largest number of digits in ``grpc-status``, including leading zeros."""
_TIMEOUT_LIMIT = 10**8
"""A timeout has at most eight digits."""
_CACHED_BLOCKS = 32
"""The number of cached blocks, one for each method with its metadata. A client uses fewer at a time."""


class Status(NamedTuple):
    """The final status of a call or a stream.

    Attributes:
        code: The name of the gRPC status code.
        message: The reason, for people (``grpc-message``).
        unprocessed: The peer has not processed any part of the request, so it may be sent again (RFC 9113, 8.7).
        graceful: The peer closes the connection without an error, as before a planned restart.
    """

    code: str
    message: str
    unprocessed: bool = False
    graceful: bool = False


class RpcError(Exception):
    """A call failed, or a stream could not be opened.

    Attributes:
        status: The final status.
    """

    def __init__(self, status: Status) -> None:
        # The peer chose the text. Its control characters are escaped, so that a traceback cannot control the terminal.
        super().__init__(f"{status.code}: {status.message.encode('unicode_escape').decode()}")
        self.status = status


LOCAL_AUTHORITY = "localhost"
"""The host name of a peer at a unix socket, as gRPC's libraries send it."""


class RequestHeaders:
    """The encoded headers of requests. They are cached for each method and metadata."""

    def __init__(self, scheme: str, authority: str, user_agent: str) -> None:
        """Create the headers of a connection to ``host:port`` or ``unix:/path``. The scheme is ``http`` or ``https``."""
        self._scheme = scheme
        self._authority = LOCAL_AUTHORITY if authority.startswith("unix:") else authority
        self._user_agent = user_agent
        self._kept: dict[tuple[str, Metadata], bytes] = {}

    def encode(self, path: str, metadata: Metadata) -> bytes:
        """Return the headers of a request to the method with this path."""
        key = path, metadata
        if (block := self._kept.get(key)) is None:
            block = encode_headers(
                (
                    (b":method", b"POST"),
                    (b":scheme", self._scheme.encode()),
                    (b":path", path.encode()),
                    (b":authority", self._authority.encode()),
                    (b"te", b"trailers"),
                    (b"content-type", b"application/grpc"),
                    (b"user-agent", self._user_agent.encode()),
                )
            )
            block += encode_headers(((name.encode(), value.encode()) for name, value in metadata), secret=True)
            if len(self._kept) > _CACHED_BLOCKS:  # the old entries have metadata that is not used any more
                self._kept.clear()
            self._kept[key] = block
        return block


def encode_message(message: bytes) -> bytes:
    """Return a message with its prefix."""
    return b"\0" + len(message).to_bytes(_PREFIX_BYTES - 1, "big") + message


class MessageDecoder:
    """A decoder that assembles a stream's messages from pieces of any size.

    Attributes:
        error: The reason why the rest of the stream is not decoded, or None. A message is compressed, although this
            client requests no compression, or it is too long.
        buffered: The number of bytes of an incomplete message that are kept.
    """

    __slots__ = ("_most", "_received", "buffered", "error")

    def __init__(self, most: int) -> None:
        """Create a decoder that accepts messages of at most ``most`` bytes."""
        self._received = bytearray()
        self._most = most
        self.buffered = 0
        self.error: Status | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Add data and return the messages that are complete now."""
        received = self._received
        if not received and len(data) == int.from_bytes(data[:_PREFIX_BYTES], "big") + _PREFIX_BYTES <= self._most:
            return [data[_PREFIX_BYTES:]]  # one complete uncompressed message, the usual case
        messages: list[bytes] = []
        at = 0
        received += data
        while len(received) - at >= _PREFIX_BYTES:
            if received[at]:
                self.error = Status("INTERNAL", "a compressed message, although no compression was requested")
                break
            size = int.from_bytes(received[at + 1 : at + _PREFIX_BYTES], "big")
            if size > self._most:
                self.error = Status(
                    "RESOURCE_EXHAUSTED", f"a message of {size} bytes is longer than max_recv_bytes = {self._most}"
                )
                break
            end = at + _PREFIX_BYTES + size
            if len(received) < end:
                break
            messages.append(bytes(memoryview(received)[at + _PREFIX_BYTES : end]))
            at = end
        if self.error is not None:
            received.clear()
        else:
            del received[:at]
        self.buffered = len(received)
        return messages


def not_grpc(headers: Mapping[str, str]) -> Status | None:
    """Return an error status if the headers that begin a response are not those of a gRPC server, else None.

    The body after other headers, such as a proxy's error page, contains no messages.
    """
    http, kind = headers.get(":status", "none"), headers.get("content-type", _GRPC)
    if http == "200" and kind.startswith(_GRPC):
        return None
    return Status(
        "UNAVAILABLE",
        f"HTTP status {http} with content type {kind!r} instead of a gRPC response: it comes from a proxy, or from a "
        "server without gRPC",
    )


def status_of(headers: Mapping[str, str], trailers: Mapping[str, str]) -> Status:
    """Return the status in the trailers of an ended stream. A response without trailers has it in its headers."""
    if (number := trailers.get("grpc-status")) is None:
        cut = Status("UNAVAILABLE", "the response ended without a gRPC status: a proxy or the server has cut it off")
        return not_grpc(headers or trailers) or cut
    # `isdecimal` accepts digits of other scripts, and `int` parses them. But `int` refuses thousands of digits.
    known = number.isdecimal() and len(number) <= _MAX_STATUS_DIGITS and int(number) < len(_CODES)
    code = _CODES[int(number)] if known else "UNKNOWN"
    return Status(code, unquote(trailers.get("grpc-message", "")))


def encode_timeout(seconds: float) -> str:
    """Return the value of ``grpc-timeout``, the time that the server may take."""
    micro = max(1, int(seconds * 1e6))
    return f"{micro}u" if micro < _TIMEOUT_LIMIT else f"{min(micro // 1000, _TIMEOUT_LIMIT - 1)}m"
