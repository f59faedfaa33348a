"""A program that serves HTTP/2 clients one after another, and floods each in the way that its path names.

It is a separate process, so that its memory and its CPU are not the client's. The frames are hyperframe's.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import repeat

import hpack
from hyperframe import frame as frames

__all__ = ("FLOODS",)

MEGABYTES = int(os.environ.get("HOSTILE_MEGABYTES", "40"))
"""The maximum number of bytes that are sent: several windows."""
_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
Flood = Callable[[list[int]], Iterator[bytes]]
"""Yields the bytes to send, given the ids of the client's streams."""


def data(number: int, payload: bytes, *, flags: tuple[str, ...] = ()) -> bytes:
    return bytes(frames.DataFrame(number, payload, flags=flags).serialize())


def headers(number: int, block: bytes, *flags: str) -> bytes:
    return bytes(frames.HeadersFrame(number, block, flags=flags).serialize())


def begin(number: int) -> bytes:
    return headers(number, hpack.Encoder().encode(_HEADERS), "END_HEADERS")


def message(payload: bytes, size: int | None = None) -> bytes:
    return b"\0" + (len(payload) if size is None else size).to_bytes(4, "big") + payload


def endless(piece: bytes, times: int = 1000) -> Iterator[bytes]:
    return repeat(piece * times)


def one_huge_message(numbers: list[int]) -> Iterator[bytes]:
    yield begin(numbers[0]) + data(numbers[0], message(b"", 2**32 - 1))
    yield from endless(data(numbers[0], bytes(16_384)), 10)


def parts_of_messages(numbers: list[int]) -> Iterator[bytes]:
    """Each of them is allowed. Together they are too long."""
    for number in numbers:
        yield begin(number) + data(number, message(b"", 2**24))
    for _ in range(900):
        for number in numbers:
            yield data(number, bytes(16_384))


def endless_headers(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(begin(numbers[0]))


def endless_informational_headers(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(headers(numbers[0], hpack.Encoder().encode([(":status", "103")]), "END_HEADERS"))


def endless_continuations(numbers: list[int]) -> Iterator[bytes]:
    yield headers(numbers[0], b"")
    yield from endless(bytes(frames.ContinuationFrame(numbers[0], b"\x88" * 16_000).serialize()), 10)


def empty_continuations(numbers: list[int]) -> Iterator[bytes]:
    yield headers(numbers[0], b"")
    yield from endless(bytes(frames.ContinuationFrame(numbers[0], b"").serialize()))


def many_headers_in_one_block(numbers: list[int]) -> Iterator[bytes]:
    encoder = hpack.Encoder()
    yield headers(numbers[0], encoder.encode([*_HEADERS, ("x", "y" * 3_900)]), "END_HEADERS")
    yield from endless(headers(numbers[0], b"\xbe" * 16_000, "END_HEADERS"), 10)


def pings(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.PingFrame(0, bytes(8)).serialize()))


def pings_that_are_paid_for(numbers: list[int]) -> Iterator[bytes]:
    yield begin(numbers[0])
    yield from endless(data(numbers[0], message(b"")) + 9 * bytes(frames.PingFrame(0, bytes(8)).serialize()), 100)


def settings(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.SettingsFrame(0, settings={4: 65_535}).serialize()))


def one_frame_of_settings(numbers: list[int]) -> Iterator[bytes]:
    piece = b"".join(b"\0\4" + (65_535 + place % 2).to_bytes(4, "big") for place in range(2_700))
    yield from endless(len(piece).to_bytes(3, "big") + b"\4\0\0\0\0\0" + piece, 10)


def empty_data(numbers: list[int]) -> Iterator[bytes]:
    yield begin(numbers[0])
    yield from endless(data(numbers[0], b""))


def padding(numbers: list[int]) -> Iterator[bytes]:
    yield begin(numbers[0])
    frame = frames.DataFrame(numbers[0], b"", pad_length=0, flags=("PADDED",))
    yield from endless(bytes(frame.serialize()))


def data_of_a_closed_stream(numbers: list[int]) -> Iterator[bytes]:
    yield bytes(frames.RstStreamFrame(numbers[0], 8).serialize())
    yield from endless(data(numbers[0], b"x"))


def resets(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.RstStreamFrame(numbers[0], 8).serialize()))


def window_updates(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.WindowUpdateFrame(numbers[0], 1).serialize()))


def goaways(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.GoAwayFrame(0, 2**31 - 1, 0).serialize()))


def priorities(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(bytes(frames.PriorityFrame(numbers[0], depends_on=0, stream_weight=1).serialize()))


def unknown_frames(numbers: list[int]) -> Iterator[bytes]:
    yield from endless(b"\0\0\0\x77\0\0\0\0\0")


def several_messages(numbers: list[int]) -> Iterator[bytes]:
    yield begin(numbers[0])
    yield from endless(data(numbers[0], message(bytes(8_000))), 20)


def tiny_messages(numbers: list[int]) -> Iterator[bytes]:
    """They are valid, and there are many."""
    yield begin(numbers[0])
    for _ in range(100):
        yield data(numbers[0], message(b"")) * 1_000


def messages_packed_in_frames(numbers: list[int]) -> Iterator[bytes]:
    """These are valid, too. Each frame has three thousand."""
    yield begin(numbers[0])
    for _ in range(100):
        yield data(numbers[0], message(b"") * 3_276)


FLOODS: dict[str, Flood] = {
    flood.__name__: flood
    for flood in (
        *(one_huge_message, parts_of_messages, endless_headers, endless_informational_headers, endless_continuations),
        *(empty_continuations, many_headers_in_one_block, pings, pings_that_are_paid_for, settings),
        *(one_frame_of_settings, empty_data, padding, data_of_a_closed_stream, resets, window_updates, goaways),
        *(priorities, unknown_frames, several_messages, tiny_messages, messages_packed_in_frames),
    )
}


def _requests(peer: socket.socket) -> tuple[str, list[int]]:
    """Read until as many streams are open as their path says. Return the name in it, and their ids."""
    decoder, received, numbers = hpack.Decoder(), b"", []
    while len(received) < _PREFACE:
        received += peer.recv(65_536)
    received = received[_PREFACE:]
    while True:
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
            received += peer.recv(65_536)
        size = int.from_bytes(received[:3], "big")
        frame, _ = frames.Frame.parse_frame_header(memoryview(received[:9]))
        frame.parse_body(memoryview(received[9 : 9 + size]))
        received = received[9 + size :]
        if isinstance(frame, frames.HeadersFrame):
            numbers.append(frame.stream_id)
            path = dict(decoder.decode(frame.data, raw=True))[b":path"]
            _, name, streams = path.decode().split("/")
            if len(numbers) == int(streams):
                return name, numbers


def _serve(peer: socket.socket) -> None:
    with suppress(OSError), peer:
        name, numbers = _requests(peer)
        peer.sendall(bytes(frames.SettingsFrame(0).serialize()))
        left = MEGABYTES * 2**20
        for piece in FLOODS[name](numbers):
            peer.sendall(piece)
            left -= len(piece)
            if left < 0:
                break


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        print(listener.getsockname()[1], flush=True)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_serve, args=(peer,), daemon=True).start()


if __name__ == "__main__":
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # ends with its parent
    main()
