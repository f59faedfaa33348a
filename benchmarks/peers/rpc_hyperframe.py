"""A codec by hyperframe and hpack, without a state machine.

The headers of a method are packed once, as etcdleader does it. They are never indexed, so their block can be
sent again.
"""

from __future__ import annotations

from collections.abc import Iterator

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from benchmarks.peers.rpc_client import TIMEOUT, WINDOW, Received, framed, headers, timeout_header, whole

__all__ = ("HyperframeCodec",)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9


class HyperframeCodec:
    """HEADERS in several frames are not supported: etcd sends none."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._blocks: dict[bytes, bytes] = {}
        self._next = 1
        self._came = bytearray()
        self._streams: dict[int, bytearray] = {}
        self._received = 0
        settings = {SettingsFrame.ENABLE_PUSH: 0, SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW}
        self._out = bytearray(PREFACE + SettingsFrame(0, settings=settings).serialize())
        self._out += WindowUpdateFrame(0, window_increment=WINDOW - 65_535).serialize()

    def _packed(self, pairs: list[tuple[bytes, bytes]]) -> bytes:
        return self._encoder.encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in pairs], huffman=False)

    def open(self, path: bytes, message: bytes, *, last: bool) -> int:
        number = self._next
        self._next += 2
        if (block := self._blocks.get(path)) is None:
            block = self._blocks[path] = self._packed(headers(path, self._authority, None))
        if last:
            block += self._packed([timeout_header(TIMEOUT)])
        self._streams[number] = bytearray()
        self._out += HeadersFrame(number, block, flags=("END_HEADERS",)).serialize()
        self._out += DataFrame(number, framed(message), flags=("END_STREAM",) if last else ()).serialize()
        return number

    def take(self) -> bytes:
        data, self._out = bytes(self._out), bytearray()
        return data

    def receive(self, data: bytes) -> Iterator[Received]:
        came = self._came
        came += data
        view, at, end = memoryview(bytes(came)), 0, len(came)
        while end - at >= HEAD:
            frame, size = Frame.parse_frame_header(view[at : at + HEAD])
            if end - at < HEAD + size:
                break
            frame.parse_body(view[at + HEAD : at + HEAD + size])
            at += HEAD + size
            yield from self._frame_came(frame)
        del came[:at]

    def _frame_came(self, frame: Frame) -> Iterator[Received]:
        if isinstance(frame, DataFrame):
            self._received += frame.body_len
            if self._received > WINDOW // 2:
                self._out += WindowUpdateFrame(0, window_increment=self._received).serialize()
                self._received = 0
            if (buffer := self._streams.get(frame.stream_id)) is not None:
                buffer += frame.data
                yield frame.stream_id, whole(buffer), False
        elif isinstance(frame, HeadersFrame):
            found = dict(self._decoder.decode(frame.data, raw=True))
            if "END_STREAM" in frame.flags and self._streams.pop(frame.stream_id, None) is not None:
                assert found[b"grpc-status"] == b"0", found
                yield frame.stream_id, [], True
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._out += SettingsFrame(0, flags=("ACK",)).serialize()
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self._out += PingFrame(0, frame.opaque_data, flags=("ACK",)).serialize()
        elif isinstance(frame, RstStreamFrame) and self._streams.pop(frame.stream_id, None) is not None:
            raise AssertionError("a stream was reset")
