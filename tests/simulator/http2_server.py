"""The member's end of a connection: the part of HTTP/2 (RFC 9113) and gRPC that a server of etcd needs. No I/O.

It is written apart from the library's codec, and trusts its client. So it is short and cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

__all__ = ("CODES", "Handler", "Http2Server")

CODES = {
    "OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}  # fmt: skip
"""gRPC's status codes."""

_PREFACE = 24
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_MAX_STREAMS, _INITIAL_WINDOW = 3, 4
_LARGEST_WINDOW = 2**31 - 1
_GRPC = b"application/grpc"
# Header fields with incremental indexing the first time (RFC 7541, 6.2.1), and as an index afterwards, as Go's server
# sends them.
_STATUS_200 = b"\x88"
_FIRST_CONTENT_TYPE = b"\x5f" + bytes([len(_GRPC)]) + _GRPC
_FIRST_OK = b"\x40" + bytes([len(b"grpc-status")]) + b"grpc-status" + b"\x010"
_INDEX_62, _INDEX_63 = b"\xbe", b"\xbf"
_TIMEOUT = b"grpc-timeout"


class Handler(Protocol):
    """Receives the requests of one connection."""

    def message(self, stream: int, path: str, token: str, message: bytes) -> None:
        """Receive one message of a call or a stream. The token is that of the headers, or empty."""

    def cancelled(self, stream: int) -> None:
        """Receive the client's end of a call or a stream."""


class Http2Server:
    """One connection. ``send`` is called with bytes for the client."""

    def __init__(self, send: Callable[[bytes], None], handler: Handler, max_streams: int | None) -> None:
        self._send = send
        self._handler = handler
        self._received = bytearray()
        self._preface = _PREFACE
        self._heads: dict[bytes, tuple[str, str]] = {}
        self._streams: dict[int, tuple[str, str]] = {}
        self._partial: dict[int, bytearray] = {}
        self._begun: set[int] = set()
        self._knows_content_type = self._knows_ok = False
        self._last_stream = 0
        settings = _INITIAL_WINDOW.to_bytes(2, "big") + _LARGEST_WINDOW.to_bytes(4, "big")
        if max_streams is not None:
            settings += _MAX_STREAMS.to_bytes(2, "big") + max_streams.to_bytes(4, "big")
        more = (_LARGEST_WINDOW - 65_535).to_bytes(4, "big")
        send(_frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, more))

    # From the client

    def receive(self, data: bytes) -> None:
        """Receive bytes."""
        if self._preface:
            skipped = min(self._preface, len(data))
            self._preface -= skipped
            data = data[skipped:]
        received = self._received
        received += data
        at, end = 0, len(received)
        while end - at >= 9:
            size = int.from_bytes(received[at : at + 3], "big")
            if end - at < 9 + size:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9], "big")
            self._frame(kind, flags, stream, bytes(received[at + 9 : at + 9 + size]))
            at += 9 + size
        del received[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            assert flags & _END_HEADERS
            self._last_stream = stream
            self._streams[stream] = self._head(payload)
        elif kind == _DATA:
            self._data(stream, payload)
        elif kind == _RST_STREAM:
            self._end(stream)
            self._handler.cancelled(stream)
        elif kind == _SETTINGS and not flags & _ACK:
            self._send(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._send(_frame(_PING, _ACK, 0, payload))

    def _head(self, block: bytes) -> tuple[str, str]:
        """Return the path and the token. The client encodes headers as plain literals, so they can be searched for."""
        end = block.rfind(_TIMEOUT)
        block = block if end < 0 else block[:end]
        if (head := self._heads.get(block)) is None:
            path = block.index(b"/etcdserverpb.")
            token = block.find(b"\x05token")
            head = _text(block, path - 1), "" if token < 0 else _text(block, token + 6)
            self._heads[block] = head
        return head

    def _data(self, stream: int, payload: bytes) -> None:
        if stream not in self._streams:
            return
        waiting = self._partial.pop(stream, None)
        data = payload if waiting is None else bytes(waiting + payload)
        while len(data) >= 5:
            size = int.from_bytes(data[1:5], "big")
            if len(data) < 5 + size:
                break
            message, data = data[5 : 5 + size], data[5 + size :]
            path, token = self._streams.get(stream, ("", ""))
            if path:
                self._handler.message(stream, path, token, message)
        if data:
            self._partial[stream] = bytearray(data)

    # To the client

    def respond(self, stream: int, message: bytes) -> bytes:
        """Return the bytes of a whole response, or nothing if the client has cancelled its call."""
        if stream not in self._streams:
            return b""
        data = self.send_message(stream, message) + _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, self._ok())
        self._end(stream)
        return data

    def send_message(self, stream: int, message: bytes) -> bytes:
        """Return the bytes of one message on a stream, or nothing if it has ended."""
        if stream not in self._streams:
            return b""
        prefixed = b"\0" + len(message).to_bytes(4, "big") + message
        data = _frame(_DATA, 0, stream, prefixed)
        if stream not in self._begun:
            self._begun.add(stream)
            data = _frame(_HEADERS, _END_HEADERS, stream, self._start()) + data
        return data

    def fail(self, stream: int, code: str, text: str) -> bytes:
        """Return the bytes that end a call or a stream with an error, or nothing if it has ended."""
        if stream not in self._streams:
            return b""
        fields = _literal(b"grpc-status", str(CODES[code]).encode())
        fields += _literal(b"grpc-message", quote(text, safe=" :/,;'()").encode())
        if stream not in self._begun:
            fields = _STATUS_200 + _literal(b"content-type", _GRPC) + fields
        self._end(stream)
        return _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, fields)

    def go_away(self) -> bytes:
        """Return the bytes that close the connection gracefully."""
        return _frame(_GOAWAY, 0, 0, self._last_stream.to_bytes(4, "big") + bytes(4))

    def _start(self) -> bytes:
        if not self._knows_content_type:
            self._knows_content_type = True
            return _STATUS_200 + _FIRST_CONTENT_TYPE
        # A header that is put into the table takes index 62, and moves the earlier ones up.
        return _STATUS_200 + (_INDEX_63 if self._knows_ok else _INDEX_62)

    def _ok(self) -> bytes:
        if self._knows_ok:
            return _INDEX_62
        self._knows_ok = True
        return _FIRST_OK

    def _end(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._partial.pop(stream, None)
        self._begun.discard(stream)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode a header without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(data: bytes) -> bytes:
    if len(data) < 0x7F:
        return bytes((len(data),))
    left, encoded = len(data) - 0x7F, bytearray((0x7F,))
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


def _text(block: bytes, at: int) -> str:
    """Return the text whose length is at this place. It is shorter than 127 bytes."""
    return block[at + 1 : at + 1 + block[at]].decode()
