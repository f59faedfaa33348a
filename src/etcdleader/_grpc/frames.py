"""The HTTP/2 frames that a gRPC client needs (RFC 9113). No I/O: bytes in, events and bytes out.

What a peer sends is checked as far as this client relies on it. Rules whose breach harms only the peer are not checked.
What a peer may cost is bounded by ``limits.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import limits
from .happenings import Arrived, Ended, GoneAway, Happening, Headers, ProtocolError
from .hpack import Unpacker

__all__ = ("Frames",)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_HAS_PRIORITY = 0x20
_ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _FRAME_SIZE, _HEADER_LIST_SIZE = range(2, 7)
_HEAD = 9
_WINDOW = 65_535
"""The window of a stream, and of the connection, before anything else was agreed on."""
_LARGEST_WINDOW = 2**31 - 1
_FRAME = 16_384
"""The largest frame that we accept, and the largest that we send before the peer allows more."""
_LARGEST_FRAME = 2**24 - 1
_LAST_STREAM = 2**31 - 1
_STREAMS = 100
"""Streams at a time before the peer's first settings arrive."""
_REFUSED_STREAM, _CANCEL = 0x7, 0x8
_MALFORMED = "a frame that is not as it should be"
_REFUND = limits.REFUND
_HEADER_UNIT, _FRAME_UNIT = 64, 32
"""Bytes of a header block that no stream wants, and of any frame, that cost as much as one frame more. A frame of data
may hold thousands of messages."""


@dataclass(slots=True)
class _Stream:
    inbound: int
    """Bytes that the peer may send before it receives a WINDOW_UPDATE."""
    widened: int = 0
    """What the peer allows beyond the initial window, less what was sent: so a change of that concerns no stream."""
    to_send: bytearray = field(default_factory=bytearray)
    last: bool = False
    """Whether ``to_send`` is complete."""


class Frames:
    """The state of one connection, from the client's side.

    Attributes:
        room: The number of streams that the peer allows at a time.
        has_more: Whether ``receive`` has left frames for its next call.
        to_send: The bytes to send now. ``take`` empties it.
    """

    def __init__(self, window: int) -> None:
        """Begin a connection on which the peer may send ``window`` bytes per stream, and in all, before an update."""
        self.room = _STREAMS
        self.has_more = False
        self._window = window
        self._low = window - window // 2  # a window that is smaller is opened again
        self._next = 1
        self._streams: dict[int, _Stream] = {}
        self._waiting: dict[int, _Stream] = {}  # those with something to send
        self._may_send = _WINDOW
        self._may_send_first = _WINDOW
        self._frame = _FRAME
        self._inbound = window
        self._narrow: dict[int, _Stream] = {}  # those whose windows are low
        self._came = bytearray()
        self._block: tuple[int, bool] | None = None
        self._fragments = bytearray()
        self._block_frames = 0
        self._worthless = self._answers = self._pings = 0
        self._wider_since = self._greeted = self._settled = False
        self._unpacker = Unpacker()
        self.to_send = bytearray(_PREFACE)
        settings = ((_ENABLE_PUSH, 0), (_INITIAL_WINDOW, window), (_HEADER_LIST_SIZE, limits.HEADER_LIST))
        payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings)
        self._add(_SETTINGS, 0, 0, payload)
        if window > _WINDOW:
            self._widen(0, window - _WINDOW)

    # Sending

    @property
    def has_output(self) -> bool:
        """Whether ``take`` has something to return."""
        return bool(self.to_send) or bool(self._narrow) or self._inbound < self._low

    def take(self) -> bytes:
        """Return the bytes to send now.

        What was received is acknowledged here, and not before: a peer that reads nothing may send no more than one
        window.
        """
        if self._inbound < self._low:
            self._widen(0, self._window - self._inbound)
            self._inbound = self._window
        if self._narrow:
            for number, stream in self._narrow.items():
                self._widen(number, self._window - stream.inbound)
                stream.inbound = self._window
            self._narrow.clear()
        data, self.to_send = bytes(self.to_send), bytearray()
        self._answers = 0
        self._fill()
        return data

    def waiting(self, number: int) -> int:
        """Return how many bytes wait on a stream for the peer's windows."""
        return len(stream.to_send) if (stream := self._streams.get(number)) is not None else 0

    @property
    def exhausted(self) -> bool:
        """Whether all stream ids are used up."""
        return self._next > _LAST_STREAM

    def open(self, block: bytes) -> int:
        """Open a stream with packed headers and return its id."""
        number = self._next
        if number == 1:
            # A table size of 0. So our table is never larger than the peer allows, whatever its settings say later.
            block = b"\x20" + block
        self._next += 2
        self._streams[number] = _Stream(self._window)
        kind = _HEADERS
        while len(block) > self._frame:
            self._add(kind, 0, number, block[: self._frame])
            block, kind = block[self._frame :], _CONTINUATION
        self._add(kind, _END_HEADERS, number, block)
        return number

    def send(self, number: int, data: bytes, *, last: bool = False) -> None:
        """Send data on a stream as soon as the peer's windows allow it. Data for a closed stream are dropped."""
        if (stream := self._streams.get(number)) is not None and not stream.last:
            stream.to_send += data
            stream.last = last
            self._waiting[number] = stream
            self._fill_from(number, stream)  # those that wait already wait for the peer

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._waiting.pop(number, None)
        self._narrow.pop(number, None)

    def finish(self, number: int) -> None:
        """End our half of a stream that the peer has ended."""
        stream = self._streams.get(number)
        if stream is None or (stream.last and not stream.to_send):
            self._forget(number)
        else:
            self.reset(number)

    def reset(self, number: int) -> None:
        """Cancel a stream."""
        if number in self._streams:
            self._forget(number)
            self._add(_RST_STREAM, 0, number, _CANCEL.to_bytes(4, "big"))

    def ping(self) -> None:
        """Send a PING."""
        self._pings += 1
        self._add(_PING, 0, 0, bytes(8))

    def _add(self, kind: int, flags: int, number: int, payload: bytes | bytearray) -> None:
        self.to_send += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big")
        self.to_send += payload

    def _widen(self, number: int, by: int) -> None:
        self._add(_WINDOW_UPDATE, 0, number, by.to_bytes(4, "big"))

    def _answer(self, kind: int, payload: bytes) -> None:
        self._answers += 1
        if self._answers > limits.ANSWERS:
            raise ProtocolError(f"the peer reads none of the answers to its last {limits.ANSWERS} pings and settings")
        self._add(kind, _ACK, 0, payload)

    def _fill(self) -> None:
        """Move data to ``to_send`` as far as the peer's windows allow."""
        self._wider_since = False
        for number, stream in list(self._waiting.items()):
            self._fill_from(number, stream)

    def _fill_from(self, number: int, stream: _Stream) -> None:
        while stream.to_send or stream.last:
            if len(self.to_send) >= limits.OUTPUT_AT_A_TIME:
                return
            window = max(0, min(self._may_send_first + stream.widened, self._may_send))
            size = min(len(stream.to_send), self._frame, window)
            if not size and stream.to_send:
                break
            last = stream.last and size == len(stream.to_send)
            self._add(_DATA, _END_STREAM if last else 0, number, stream.to_send[:size])
            del stream.to_send[:size]
            stream.widened -= size
            self._may_send -= size
            self._worthless -= _REFUND
            if last:
                break
        if not stream.to_send:
            del self._waiting[number]

    # Receiving

    def receive(self, data: bytes) -> Iterable[Happening]:
        """Return the events that the data contain. The caller must consume all of them.

        At most ``limits.FRAMES_AT_A_TIME`` frames are processed, fewer long ones. The rest is kept for the next call.

        Raises:
            ProtocolError: The peer broke the protocol.
        """
        came = self._came
        came += data
        at, end = 0, len(came)
        self.has_more = False
        left = limits.FRAMES_AT_A_TIME
        try:
            while end - at >= _HEAD:
                if left <= 0:
                    self.has_more = True
                    break
                size = int.from_bytes(came[at : at + 3], "big")
                left -= 1 + size // _FRAME_UNIT
                if size > _FRAME:
                    raise ProtocolError(self._what_is(came))
                if end - at < _HEAD + size:
                    break
                number = int.from_bytes(came[at + 5 : at + _HEAD], "big") & _LAST_STREAM
                kind, flags = came[at + 3], came[at + 4]
                if not self._greeted and kind != _SETTINGS:
                    raise ProtocolError(self._what_is(came))
                self._greeted = True
                payload = bytes(came[at + _HEAD : at + _HEAD + size])
                at += _HEAD + size
                yield from self._frame_came(kind, flags, number, payload)
        finally:
            del came[:at]
            if self._wider_since:
                self._fill()  # once, whatever number of frames has opened windows

    def _what_is(self, came: bytearray) -> str:
        if not self._greeted and came.startswith(b"HTTP/1"):
            return "HTTP/1 is spoken there"
        return "a frame that is too long" if self._greeted else "no HTTP/2 is spoken there"

    def _frame_came(self, kind: int, flags: int, number: int, payload: bytes) -> Iterable[Happening]:
        if (kind == _CONTINUATION) != (self._block is not None):
            raise ProtocolError("headers in pieces that do not follow each other")
        if kind == _DATA:
            return self._data(flags, number, payload)
        if kind == _HEADERS:
            if not number % 2:
                raise ProtocolError(_MALFORMED)
            if flags & (_PADDED | _HAS_PRIORITY):
                payload = _unpadded(flags, payload)[5 if flags & _HAS_PRIORITY else 0 :]
            return self._headers(flags, number, payload, ended=bool(flags & _END_STREAM))
        if kind == _CONTINUATION:
            assert self._block is not None
            self._expect(number == self._block[0])
            return self._headers(flags, number, payload, ended=self._block[1])
        if kind == _RST_STREAM:
            self._expect(number > 0, len(payload) == 4)
            if number not in self._streams:
                self._waste()
                return ()
            self._forget(number)
            code = int.from_bytes(payload, "big")
            return (Ended(number, code, unprocessed=code == _REFUSED_STREAM),)
        if kind == _PING:
            self._expect(number == 0, len(payload) == 8)
            if flags & _ACK and self._pings:
                self._pings -= 1
                self._worthless -= _REFUND
                return ()
        self._waste()
        if kind == _SETTINGS:
            self._settings(flags, number, payload)
        elif kind == _PING:
            if not flags & _ACK:
                self._answer(_PING, payload)
        elif kind == _WINDOW_UPDATE:
            self._wider(number, payload)
        elif kind == _GOAWAY:
            self._expect(number == 0, len(payload) >= 8)
            last, code = int.from_bytes(payload[:4], "big") & _LAST_STREAM, int.from_bytes(payload[4:8], "big")
            return (GoneAway(last, code, payload[8:].decode(errors="replace")),)
        elif kind == _PUSH_PROMISE:
            raise ProtocolError("a push, which was not asked for")
        return ()  # PRIORITY, or an unknown kind, which has to be ignored

    def _waste(self, frames: int = 1) -> None:
        """Count frames that bring nothing to any stream. Others have paid for some of them."""
        self._worthless = max(self._worthless, 0) + frames
        if self._worthless > limits.WORTHLESS_FRAMES:
            raise ProtocolError(f"more than {limits.WORTHLESS_FRAMES} frames that bring nothing to any stream")

    @staticmethod
    def _expect(*conditions: bool) -> None:
        if not all(conditions):
            raise ProtocolError(_MALFORMED)

    def _data(self, flags: int, number: int, payload: bytes) -> Iterable[Happening]:
        if not number % 2:
            raise ProtocolError(_MALFORMED)
        if number >= self._next:
            raise ProtocolError("data on a stream that was never opened")
        # Padding counts, and so do late data of a stream that was cancelled.
        size = len(payload)
        self._inbound -= size
        if self._inbound < 0:
            raise ProtocolError("more data than the window of the connection allows")
        if (stream := self._streams.get(number)) is None:
            self._waste()
            return ()
        stream.inbound -= size
        if stream.inbound < 0:
            raise ProtocolError("more data than the window of the stream allows")
        ended = bool(flags & _END_STREAM)
        if stream.inbound < self._low and not ended:
            self._narrow[number] = stream
        data = _unpadded(flags, payload) if flags & _PADDED else payload
        if data or ended:
            self._worthless -= _REFUND
        else:
            self._waste()
        return (Arrived(number, data, ended),)

    def _headers(self, flags: int, number: int, payload: bytes, *, ended: bool) -> Iterable[Happening]:
        if self._block is not None or not flags & _END_HEADERS:
            self._fragments += payload
            self._block_frames += 1
            if len(self._fragments) > limits.HEADER_LIST or self._block_frames > limits.HEADER_FRAMES:
                most = f"{limits.HEADER_LIST} bytes, or in more than {limits.HEADER_FRAMES} frames"
                raise ProtocolError(f"headers of more than {most}")
            if not flags & _END_HEADERS:
                self._block = number, ended
                return ()
            payload, self._fragments, self._block, self._block_frames = bytes(self._fragments), bytearray(), None, 0
        try:
            # Each block is unpacked, also those of closed streams: it may change the table.
            headers = self._unpacker.unpack(payload)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if number not in self._streams:
            self._waste(1 + len(payload) // _HEADER_UNIT)
            return ()
        self._worthless -= _REFUND
        return (Headers(number, headers, ended),)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        self._expect(number == 0, len(payload) % 6 == 0)
        if flags & _ACK:
            return
        if len(payload) > 6 * limits.SETTINGS:
            raise ProtocolError(f"more than {limits.SETTINGS} settings in one frame")
        if not self._settled:
            self._settled = True
            self.room = _LAST_STREAM  # unless these settings name a limit
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == _INITIAL_WINDOW:
                self._expect(value <= _LARGEST_WINDOW)
                self._may_send_first = value  # this may make the window of a stream negative, or too large
            elif name == _FRAME_SIZE:
                self._expect(_FRAME <= value <= _LARGEST_FRAME)
                self._frame = value
            elif name == _MAX_STREAMS:
                self.room = value
        self._answer(_SETTINGS, b"")
        self._wider_since = True

    def _wider(self, number: int, payload: bytes) -> None:
        by = int.from_bytes(payload, "big") & _LAST_STREAM
        window = 0
        if number == 0:
            window = self._may_send = self._may_send + by
        elif (stream := self._streams.get(number)) is not None:
            stream.widened += by
            window = self._may_send_first + stream.widened
        self._expect(len(payload) == 4, by > 0, window <= _LARGEST_WINDOW)
        self._wider_since = True


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("more padding than there is")
    return payload[1 : len(payload) - payload[0]]
