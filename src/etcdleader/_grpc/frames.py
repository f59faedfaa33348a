"""The HTTP/2 frames that a gRPC client needs (RFC 9113). No I/O: bytes in, events and bytes out.

Received frames are checked where this client relies on the rules. Rules whose breach harms only the peer are not
checked. ``limits.py`` bounds the resources that a peer may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import limits
from .events import ConnectionTerminated, DataReceived, H2Event, HeadersReceived, ProtocolError, StreamReset
from .hpack import HeaderDecoder

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_HAS_PRIORITY = 0x20
_ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _FRAME_SIZE, _HEADER_LIST_SIZE = range(2, 7)
_FRAME_HEADER_BYTES = 9
_INITIAL_WINDOW_BYTES = 65_535
"""The initial window of a stream and of the connection, until settings or updates change it (RFC 9113, 6.9.2)."""
_MAX_WINDOW_BYTES = 2**31 - 1
_FRAME = 16_384
"""The largest frame that we accept, and the largest that we send before the peer allows more."""
_LARGEST_FRAME = 2**24 - 1
_LAST_STREAM = 2**31 - 1
_INITIAL_MAX_STREAMS = 100
"""Streams at a time before the peer's first settings arrive."""
_REFUSED_STREAM, _CANCEL = 0x7, 0x8
_MALFORMED = "a malformed frame"
_REFUND = limits.REFUND_FRAMES
_HEADER_UNIT, _FRAME_UNIT = 64, 32
"""Bytes that count as one more frame: in a header block for no stream, and in any frame (it may have many messages)."""


@dataclass(slots=True)
class _Stream:
    inbound_window: int
    """Bytes that the peer may send before it receives a WINDOW_UPDATE."""
    outbound_window_offset: int = 0
    """The window updates minus the bytes sent. Without the initial window, so that a change of it updates no stream."""
    unsent: bytearray = field(default_factory=bytearray)
    end_after: bool = False
    """True if ``unsent`` ends our half of the stream."""


class H2Codec:
    """The state of one connection, from the client's side.

    Attributes:
        max_concurrent_streams: The number of streams that the peer allows at a time.
        has_more: True if ``receive_data`` has left frames for its next call.
        output: The bytes to send now. ``data_to_send`` empties it.
    """

    def __init__(self, window: int) -> None:
        """Create the codec. The peer may send ``window`` bytes on each stream, and in total, before an update."""
        self.max_concurrent_streams = _INITIAL_MAX_STREAMS
        self.has_more = False
        self._inbound_window_size = window
        self._low_window = window - window // 2  # a smaller window is extended by a WINDOW_UPDATE
        self._next_stream_id = 1
        self._streams: dict[int, _Stream] = {}
        self._unsent: dict[int, _Stream] = {}  # the streams with data to send
        self._outbound_window = _INITIAL_WINDOW_BYTES
        self._initial_window_size = _INITIAL_WINDOW_BYTES
        self._max_frame_size = _FRAME
        self._inbound_window = window
        self._low_windows: dict[int, _Stream] = {}  # the streams whose inbound windows are low
        self._received = bytearray()
        self._block: tuple[int, bool] | None = None
        self._fragments = bytearray()
        self._block_frames = 0
        self._useless_frames = self._acknowledgements = self._pings = 0
        self._windows_grew = self._settings_received = self._peer_settings_known = False
        self._header_decoder = HeaderDecoder()
        self.output = bytearray(_PREFACE)
        settings = ((_ENABLE_PUSH, 0), (_INITIAL_WINDOW, window), (_HEADER_LIST_SIZE, limits.HEADER_LIST))
        payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings)
        self._send_frame(_SETTINGS, 0, 0, payload)
        if window > _INITIAL_WINDOW_BYTES:
            self._send_window_update(0, window - _INITIAL_WINDOW_BYTES)

    # Sending

    @property
    def has_output(self) -> bool:
        """True if ``data_to_send`` has bytes to return."""
        return bool(self.output) or bool(self._low_windows) or self._inbound_window < self._low_window

    def data_to_send(self) -> bytes:
        """Return the bytes to send now.

        WINDOW_UPDATEs for received data are added here, and not before. So a peer that reads nothing can send at most
        one window.
        """
        if self._inbound_window < self._low_window:
            self._send_window_update(0, self._inbound_window_size - self._inbound_window)
            self._inbound_window = self._inbound_window_size
        if self._low_windows:
            for stream_id, stream in self._low_windows.items():
                self._send_window_update(stream_id, self._inbound_window_size - stream.inbound_window)
                stream.inbound_window = self._inbound_window_size
            self._low_windows.clear()
        data, self.output = bytes(self.output), bytearray()
        self._acknowledgements = 0
        self._send_what_fits()
        return data

    def unsent_bytes(self, stream_id: int) -> int:
        """Return the number of bytes on a stream that wait for the peer's windows."""
        return len(stream.unsent) if (stream := self._streams.get(stream_id)) is not None else 0

    @property
    def exhausted(self) -> bool:
        """True once all stream ids are used."""
        return self._next_stream_id > _LAST_STREAM

    def open_stream(self, block: bytes) -> int:
        """Open a stream with encoded headers and return its id."""
        stream_id = self._next_stream_id
        if stream_id == 1:
            # A dynamic table size of 0. So our table is never larger than the peer allows, even if its settings change.
            block = b"\x20" + block
        self._next_stream_id += 2
        self._streams[stream_id] = _Stream(self._inbound_window_size)
        kind = _HEADERS
        while len(block) > self._max_frame_size:
            self._send_frame(kind, 0, stream_id, block[: self._max_frame_size])
            block, kind = block[self._max_frame_size :], _CONTINUATION
        self._send_frame(kind, _END_HEADERS, stream_id, block)
        return stream_id

    def send_data(self, stream_id: int, data: bytes, *, last: bool = False) -> None:
        """Send data on a stream as soon as the peer's windows allow it. Data for a closed stream are dropped."""
        if (stream := self._streams.get(stream_id)) is not None and not stream.end_after:
            stream.unsent += data
            stream.end_after = last
            self._unsent[stream_id] = stream
            self._fill_from(stream_id, stream)  # streams with earlier data already wait for the peer's windows

    def _discard(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._unsent.pop(stream_id, None)
        self._low_windows.pop(stream_id, None)

    def finish_stream(self, stream_id: int) -> None:
        """End our half of a stream that the peer has ended."""
        stream = self._streams.get(stream_id)
        if stream is None or (stream.end_after and not stream.unsent):
            self._discard(stream_id)
        else:
            self.reset_stream(stream_id)

    def reset_stream(self, stream_id: int) -> None:
        """Cancel a stream by RST_STREAM."""
        if stream_id in self._streams:
            self._discard(stream_id)
            self._send_frame(_RST_STREAM, 0, stream_id, _CANCEL.to_bytes(4, "big"))

    def ping(self) -> None:
        """Send a PING."""
        self._pings += 1
        self._send_frame(_PING, 0, 0, bytes(8))

    def _send_frame(self, kind: int, flags: int, stream_id: int, payload: bytes | bytearray) -> None:
        self.output += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
        self.output += payload

    def _send_window_update(self, stream_id: int, by: int) -> None:
        self._send_frame(_WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))

    def _acknowledge(self, kind: int, payload: bytes) -> None:
        self._acknowledgements += 1
        if self._acknowledgements > limits.MAX_ACKNOWLEDGEMENTS:
            raise ProtocolError(
                f"the peer does not read the acknowledgements of its last {limits.MAX_ACKNOWLEDGEMENTS} pings and settings"
            )
        self._send_frame(kind, _ACK, 0, payload)

    def _send_what_fits(self) -> None:
        """Move data to ``output`` as far as the peer's windows allow."""
        self._windows_grew = False
        for stream_id, stream in list(self._unsent.items()):
            self._fill_from(stream_id, stream)

    def _fill_from(self, stream_id: int, stream: _Stream) -> None:
        while stream.unsent or stream.end_after:
            if len(self.output) >= limits.OUTPUT_AT_A_TIME:
                return
            window = max(0, min(self._initial_window_size + stream.outbound_window_offset, self._outbound_window))
            size = min(len(stream.unsent), self._max_frame_size, window)
            if not size and stream.unsent:
                break
            last = stream.end_after and size == len(stream.unsent)
            self._send_frame(_DATA, _END_STREAM if last else 0, stream_id, stream.unsent[:size])
            del stream.unsent[:size]
            stream.outbound_window_offset -= size
            self._outbound_window -= size
            self._useless_frames -= _REFUND
            if last:
                break
        if not stream.unsent:
            del self._unsent[stream_id]

    # Receiving

    def receive_data(self, data: bytes) -> Iterable[H2Event]:
        """Yield the events that the data contain. The caller must consume all of them.

        At most ``limits.FRAMES_PER_ITERATION`` frames are processed, and fewer if they are long. The rest is kept for the
        next call.

        Raises:
            ProtocolError: The peer violated the protocol.
        """
        came = self._received
        came += data
        at, end = 0, len(came)
        self.has_more = False
        left = limits.FRAMES_PER_ITERATION
        try:
            while end - at >= _FRAME_HEADER_BYTES:
                if left <= 0:
                    self.has_more = True
                    break
                size = int.from_bytes(came[at : at + 3], "big")
                left -= 1 + size // _FRAME_UNIT
                if size > _FRAME:
                    raise ProtocolError(self._describe_peer(came))
                if end - at < _FRAME_HEADER_BYTES + size:
                    break
                stream_id = int.from_bytes(came[at + 5 : at + _FRAME_HEADER_BYTES], "big") & _LAST_STREAM
                kind, flags = came[at + 3], came[at + 4]
                if not self._settings_received and kind != _SETTINGS:
                    raise ProtocolError(self._describe_peer(came))
                self._settings_received = True
                payload = bytes(came[at + _FRAME_HEADER_BYTES : at + _FRAME_HEADER_BYTES + size])
                at += _FRAME_HEADER_BYTES + size
                yield from self._on_frame(kind, flags, stream_id, payload)
        finally:
            del came[:at]
            if self._windows_grew:
                self._send_what_fits()  # once, even if several frames have extended windows

    def _describe_peer(self, came: bytearray) -> str:
        if not self._settings_received and came.startswith(b"HTTP/1"):
            return "the peer speaks HTTP/1"
        return "a frame that is too long" if self._settings_received else "the peer does not speak HTTP/2"

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Iterable[H2Event]:
        if (kind == _CONTINUATION) != (self._block is not None):
            raise ProtocolError("a header block is interrupted, or a CONTINUATION follows no headers")
        if kind == _DATA:
            return self._on_data(flags, stream_id, payload)
        if kind == _HEADERS:
            if not stream_id % 2:
                raise ProtocolError(_MALFORMED)
            if flags & (_PADDED | _HAS_PRIORITY):
                payload = _unpadded(flags, payload)[5 if flags & _HAS_PRIORITY else 0 :]
            return self._on_headers(flags, stream_id, payload, ended=bool(flags & _END_STREAM))
        if kind == _CONTINUATION:
            assert self._block is not None
            self._expect(stream_id == self._block[0])
            return self._on_headers(flags, stream_id, payload, ended=self._block[1])
        if kind == _RST_STREAM:
            self._expect(stream_id > 0, len(payload) == 4)
            if stream_id not in self._streams:
                self._count_useless()
                return ()
            self._discard(stream_id)
            code = int.from_bytes(payload, "big")
            return (StreamReset(stream_id, code, unprocessed=code == _REFUSED_STREAM),)
        if kind == _PING:
            self._expect(stream_id == 0, len(payload) == 8)
            if flags & _ACK and self._pings:
                self._pings -= 1
                self._useless_frames -= _REFUND
                return ()
        self._count_useless()
        if kind == _SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == _PING:
            if not flags & _ACK:
                self._acknowledge(_PING, payload)
        elif kind == _WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == _GOAWAY:
            self._expect(stream_id == 0, len(payload) >= 8)
            last, code = int.from_bytes(payload[:4], "big") & _LAST_STREAM, int.from_bytes(payload[4:8], "big")
            return (ConnectionTerminated(last, code, payload[8:].decode(errors="replace")),)
        elif kind == _PUSH_PROMISE:
            raise ProtocolError("a push, which this client does not allow")
        return ()  # PRIORITY, or an unknown type, which must be ignored

    def _count_useless(self, frames: int = 1) -> None:
        """Count frames that have no effect on any stream. Useful frames compensate for some of them (``REFUND_FRAMES``)."""
        self._useless_frames = max(self._useless_frames, 0) + frames
        if self._useless_frames > limits.MAX_USELESS_FRAMES:
            raise ProtocolError(f"more than {limits.MAX_USELESS_FRAMES} frames without effect on any stream")

    @staticmethod
    def _expect(*conditions: bool) -> None:
        if not all(conditions):
            raise ProtocolError(_MALFORMED)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> Iterable[H2Event]:
        if not stream_id % 2:
            raise ProtocolError(_MALFORMED)
        if stream_id >= self._next_stream_id:
            raise ProtocolError("data on a stream that was never opened")
        # Padding counts against the window, and so do late data of a cancelled stream.
        size = len(payload)
        self._inbound_window -= size
        if self._inbound_window < 0:
            raise ProtocolError("more data than the window of the connection allows")
        if (stream := self._streams.get(stream_id)) is None:
            self._count_useless()
            return ()
        stream.inbound_window -= size
        if stream.inbound_window < 0:
            raise ProtocolError("more data than the window of the stream allows")
        ended = bool(flags & _END_STREAM)
        if stream.inbound_window < self._low_window and not ended:
            self._low_windows[stream_id] = stream
        data = _unpadded(flags, payload) if flags & _PADDED else payload
        if data or ended:
            self._useless_frames -= _REFUND
        else:
            self._count_useless()
        return (DataReceived(stream_id, data, ended),)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, *, ended: bool) -> Iterable[H2Event]:
        if self._block is not None or not flags & _END_HEADERS:
            self._fragments += payload
            self._block_frames += 1
            if len(self._fragments) > limits.HEADER_LIST or self._block_frames > limits.MAX_HEADER_FRAMES:
                most = f"{limits.HEADER_LIST} bytes, or in more than {limits.MAX_HEADER_FRAMES} frames"
                raise ProtocolError(f"headers of more than {most}")
            if not flags & _END_HEADERS:
                self._block = stream_id, ended
                return ()
            payload, self._fragments, self._block, self._block_frames = bytes(self._fragments), bytearray(), None, 0
        try:
            # Each block is decoded, even that of a closed stream, because it may change the dynamic table.
            headers = self._header_decoder.decode(payload)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if stream_id not in self._streams:
            self._count_useless(1 + len(payload) // _HEADER_UNIT)
            return ()
        self._useless_frames -= _REFUND
        return (HeadersReceived(stream_id, headers, ended),)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._expect(stream_id == 0, len(payload) % 6 == 0)
        if flags & _ACK:
            return
        if len(payload) > 6 * limits.MAX_SETTINGS:
            raise ProtocolError(f"more than {limits.MAX_SETTINGS} settings in one frame")
        if not self._peer_settings_known:
            self._peer_settings_known = True
            self.max_concurrent_streams = _LAST_STREAM  # unless these settings name a limit
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == _INITIAL_WINDOW:
                self._expect(value <= _MAX_WINDOW_BYTES)
                self._initial_window_size = value  # this may make the window of a stream negative, or too large
            elif name == _FRAME_SIZE:
                self._expect(_FRAME <= value <= _LARGEST_FRAME)
                self._max_frame_size = value
            elif name == _MAX_STREAMS:
                self.max_concurrent_streams = value
        self._acknowledge(_SETTINGS, b"")
        self._windows_grew = True

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        by = int.from_bytes(payload, "big") & _LAST_STREAM
        window = 0
        if stream_id == 0:
            window = self._outbound_window = self._outbound_window + by
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.outbound_window_offset += by
            window = self._initial_window_size + stream.outbound_window_offset
        self._expect(len(payload) == 4, by > 0, window <= _MAX_WINDOW_BYTES)
        self._windows_grew = True


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("more padding than there is")
    return payload[1 : len(payload) - payload[0]]
