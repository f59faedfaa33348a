"""The part of HTTP/2 that shows passing keep-alives, and that drops what a member sends on watch streams."""

from __future__ import annotations

__all__ = ("WatchFilter",)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = 9
_DATA = 0
_END_STREAM = 1
_GRPC_PREFIX = 5
_KEEP_ALIVE = b"\x08"
_CREATE_REQUEST = b"\x0a"
"""The first bytes of a LeaseKeepAliveRequest, and of a WatchRequest that creates a watch.

Unary calls may begin alike, but end their stream with the same frame.
"""


class WatchFilter:
    """Parses one connection's HTTP/2 frames, in both directions.

    Attributes:
        renewed: The leases whose keep-alives were sent to the member, in order. The reader may clear it.
    """

    def __init__(self) -> None:
        self.renewed: list[int] = []
        self._watches: set[int] = set()
        self._messages: dict[int, bytearray] = {}
        self._up = bytearray()
        self._down = bytearray()
        self._begun = False

    def up(self, data: bytes) -> None:
        """Inspect the candidate's data, which passes unchanged."""
        self._up += data
        if not self._begun and len(self._up) >= len(_PREFACE):
            self._begun = True
            if self._up.startswith(_PREFACE):
                del self._up[: len(_PREFACE)]
        while self._begun and (frame := _take(self._up)):
            kind, flags, stream, payload = frame
            if kind != _DATA:
                continue
            if flags & _END_STREAM:
                self._watches.discard(stream)
                self._messages.pop(stream, None)
            else:
                self._sent(stream, payload)

    def _sent(self, stream: int, payload: bytes) -> None:
        """Messages sent in quick succession share frames. A message may begin in one frame and end in the next."""
        waiting = self._messages.setdefault(stream, bytearray())
        waiting += payload
        while len(waiting) >= _GRPC_PREFIX:
            whole = _GRPC_PREFIX + int.from_bytes(waiting[1:_GRPC_PREFIX], "big")
            if len(waiting) < whole:
                return
            message = bytes(waiting[_GRPC_PREFIX:whole])
            del waiting[:whole]
            if message[:1] == _CREATE_REQUEST:
                self._watches.add(stream)
            elif message[:1] == _KEEP_ALIVE:
                self.renewed.append(_varint(message[1:]))

    def down(self, data: bytes, *, drop: bool) -> bytes:
        """Return the part of the member's data that passes. Only whole frames pass, so that dropping can begin at any time."""
        self._down += data
        passed = bytearray()
        while True:
            length = _length(self._down)
            if length is None:
                return bytes(passed)
            frame = bytes(self._down[:length])
            del self._down[:length]
            stream = int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF
            if not (drop and frame[3] == _DATA and stream in self._watches):
                passed += frame


def _varint(data: bytes) -> int:
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return number


def _length(buffer: bytearray) -> int | None:
    """Return the length of the first frame, if it is complete."""
    if len(buffer) < _HEADER:
        return None
    length = _HEADER + int.from_bytes(buffer[:3], "big")
    return length if len(buffer) >= length else None


def _take(buffer: bytearray) -> tuple[int, int, int, bytes] | None:
    length = _length(buffer)
    if length is None:
        return None
    frame = bytes(buffer[:length])
    del buffer[:length]
    return frame[3], frame[4], int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF, frame[_HEADER:]
