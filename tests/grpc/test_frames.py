"""HTTP/2 frames without a socket, against h2 as the peer.

The data is cut at every place. Frames that h2 would not send are built by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader._grpc.events import (
    ConnectionTerminated,
    DataReceived,
    H2Event,
    HeadersReceived,
    ProtocolError,
    StreamReset,
)
from etcdleader._grpc.frames import H2Codec
from etcdleader._grpc.framing import MessageDecoder, Status, encode_message, encode_timeout, status_of
from etcdleader._grpc.hpack import encode_headers

WINDOW = 2**17
SETTINGS, NO_SETTINGS = 4, b"\0\0\0\4\0\0\0\0\0"
ASK = encode_headers(((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"etcd:1")))


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def taken(frames: H2Codec) -> bytes:
    return frames.data_to_send()


def greeted(window: int = WINDOW, settings: bytes = b"") -> H2Codec:
    frames = H2Codec(window)
    assert list(frames.receive_data(frame(SETTINGS, 0, 0, settings))) == []
    taken(frames)
    return frames


def sent(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    while data:
        size = int.from_bytes(data[:3], "big")
        yield data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]
        data = data[9 + size :]


def server() -> h2.connection.H2Connection:
    other = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    other.initiate_connection()
    return other


def test_h2_understands_the_sent_bytes_from_the_first_one_on() -> None:
    frames, other = H2Codec(WINDOW), server()
    number = frames.open_stream(ASK + encode_headers([(b"token", b"secret")], secret=True))
    frames.send_data(number, b"asked", last=True)
    events = other.receive_data(taken(frames))
    (request,) = (event for event in events if isinstance(event, h2.events.RequestReceived))
    assert {str(name): str(value) for name, value in request.headers} == {
        ":method": "POST", ":scheme": "http", ":path": "/a", ":authority": "etcd:1", "token": "secret",
    }  # fmt: skip
    (data,) = (event for event in events if isinstance(event, h2.events.DataReceived))
    assert data.data == b"asked"
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)
    assert other.remote_settings.initial_window_size == WINDOW
    assert other.remote_settings.enable_push == 0
    assert other.outbound_flow_control_window == WINDOW


@given(st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_received_events_are_the_same_however_the_data_is_cut(cuts: list[int], huffman: bool) -> None:
    frames, other = H2Codec(WINDOW), server()
    number = frames.open_stream(ASK)
    other.receive_data(taken(frames))
    other.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
    other.send_data(number, b"x" * 100)
    other.send_data(number, b"y" * 10, pad_length=7)
    other.send_headers(number, [("grpc-status", "0"), ("grpc-message", "fine" * 30)], end_stream=True)
    data, happened, place = other.data_to_send(), [], 0
    while data:
        size = cuts[place % len(cuts)]
        happened += list(frames.receive_data(data[:size]))
        data, place = data[size:], place + 1
    assert happened == [
        HeadersReceived(number, {":status": "200", "content-type": "application/grpc"}, stream_ended=False),
        DataReceived(number, b"x" * 100, stream_ended=False),
        DataReceived(number, b"y" * 10, stream_ended=False),
        HeadersReceived(number, {"grpc-status": "0", "grpc-message": "fine" * 30}, stream_ended=True),
    ]


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=300).map(lambda name: name.hex().encode()),
            st.binary(max_size=40_000).map(lambda value: value.hex().encode()),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_other_decoders_decode_the_headers_and_add_nothing_to_their_table(
    headers: list[tuple[bytes, bytes]],
    secret: bool,
) -> None:
    decoder = hpack.Decoder(max_header_list_size=2**30)
    unpacked: list[Any] = [tuple(pair) for pair in decoder.decode(encode_headers(headers, secret=secret), raw=True)]
    assert unpacked == headers
    assert not decoder.header_table.dynamic_entries


def test_secret_headers_are_marked_never_indexed() -> None:
    decoder = hpack.Decoder()
    (token,) = decoder.decode(encode_headers([(b"token", b"secret")], secret=True), raw=True)
    assert isinstance(token, hpack.NeverIndexedHeaderTuple)


def test_headers_longer_than_a_frame_are_sent_in_several() -> None:
    frames, other = H2Codec(WINDOW), server()
    other.decoder.max_header_list_size = 2**20
    frames.open_stream(ASK + encode_headers([(b"token", b"t" * 50_000)], secret=True))
    events = other.receive_data(taken(frames))
    (request,) = (event for event in events if isinstance(event, h2.events.RequestReceived))
    headers: list[Any] = [tuple(pair) for pair in request.headers]
    assert ("token", "t" * 50_000) in headers


def test_a_smaller_header_table_of_the_peer_has_no_effect() -> None:
    frames, other = H2Codec(WINDOW), server()
    other.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    for _ in frames.receive_data(other.data_to_send()):
        pytest.fail("nothing happened")
    frames.open_stream(ASK)
    frames.open_stream(ASK)
    assert sum(isinstance(event, h2.events.RequestReceived) for event in other.receive_data(taken(frames))) == 2


@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=70_000)), max_size=8),
    st.lists(st.integers(1, 60_000), min_size=1, max_size=5),
    st.integers(0, 100_000),
)
def test_data_is_sent_as_the_windows_allow_until_all_is_sent(
    pieces: list[tuple[int, bytes]], grants: list[int], first: int
) -> None:
    frames = greeted(settings=setting(4, first))
    numbers = [frames.open_stream(ASK) for _ in range(3)]
    want = {number: bytearray() for number in numbers}
    got = {number: bytearray() for number in numbers}
    window = {0: 65_535, **dict.fromkeys(numbers, first)}
    for place, data in pieces:
        frames.send_data(numbers[place], data)
        want[numbers[place]] += data
    ended = set()
    for number in numbers:
        frames.send_data(number, b"", last=True)
    place = 0
    while True:
        for kind, flags, number, payload in sent(taken(frames)):
            if kind == 0:
                got[number] += payload
                window[number] -= len(payload)
                window[0] -= len(payload)
                assert len(payload) <= 16_384
                assert window[number] >= 0 or not payload
                assert window[0] >= 0 or not payload
                if flags & 1:
                    ended.add(number)
        if len(ended) == 3:
            break
        for number in (0, *numbers):
            by = grants[place % len(grants)]
            place += 1
            window[number] += by
            list(frames.receive_data(frame(8, 0, number, by.to_bytes(4, "big"))))
    assert got == want


def test_an_initial_window_below_the_data_in_flight_must_be_made_up_for_first() -> None:
    frames = greeted()
    number = frames.open_stream(ASK)
    frames.send_data(number, b"x" * 60_000)
    taken(frames)
    list(frames.receive_data(frame(SETTINGS, 0, 0, setting(4, 1000))))
    frames.send_data(number, b"y" * 10)
    assert [kind for kind, *_ in sent(taken(frames))] == [SETTINGS]  # acknowledged, and no more
    list(frames.receive_data(frame(8, 0, number, (59_000).to_bytes(4, "big"))))
    assert taken(frames) == b""
    list(frames.receive_data(frame(8, 0, number, (10).to_bytes(4, "big"))))
    assert list(sent(taken(frames))) == [(0, 0, number, b"y" * 10)]


def test_received_data_is_acknowledged_before_the_window_is_used_up() -> None:
    frames = greeted(window=65_535)
    number = frames.open_stream(ASK)
    taken(frames)
    given = {0: 65_535, number: 65_535}
    for _ in range(40):
        list(frames.receive_data(frame(0, 0, number, b"z" * 16_000)))
        given[0] -= 16_000
        given[number] -= 16_000
        for kind, _, which, payload in sent(taken(frames)):
            assert kind == 8
            given[which] += int.from_bytes(payload, "big")
        assert min(given.values()) > 16_000


def test_data_on_a_cancelled_stream_counts_and_is_dropped() -> None:
    frames = greeted(window=65_535)
    number = frames.open_stream(ASK)
    frames.reset_stream(number)
    assert (3, 0, number, b"\0\0\0\x08") in list(sent(taken(frames)))
    for _ in range(3):
        assert list(frames.receive_data(frame(0, 0, number, b"z" * 16_000))) == []
    assert [(kind, which) for kind, _, which, _ in sent(taken(frames))] == [(8, 0)]


def test_headers_on_a_cancelled_stream_still_change_the_table() -> None:
    frames, encoder = greeted(), hpack.Encoder()
    first, second = frames.open_stream(ASK), frames.open_stream(ASK)
    frames.reset_stream(first)
    headers = [("grpc-status", "5"), ("grpc-message", "something long enough for the table")]
    assert list(frames.receive_data(frame(1, 5, first, encoder.encode(headers)))) == []
    assert list(frames.receive_data(frame(1, 5, second, encoder.encode(headers)))) == [
        HeadersReceived(second, dict(headers), stream_ended=True)
    ]


def test_a_ping_is_acknowledged_and_an_acknowledgement_is_not() -> None:
    frames = greeted()
    list(frames.receive_data(frame(6, 0, 0, b"12345678") + frame(6, 1, 0, bytes(8))))
    assert list(sent(taken(frames))) == [(6, 1, 0, b"12345678")]
    frames.ping()
    assert list(sent(taken(frames))) == [(6, 0, 0, bytes(8))]


@pytest.mark.parametrize(("code", "unprocessed"), [(7, True), (8, False), (0, False)])
def test_only_a_stream_that_was_refused_is_unprocessed(code: int, unprocessed: bool) -> None:
    frames = greeted()
    number = frames.open_stream(ASK)
    assert list(frames.receive_data(frame(3, 0, number, code.to_bytes(4, "big")))) == [
        StreamReset(number, code, unprocessed)
    ]
    assert list(frames.receive_data(frame(3, 0, number, code.to_bytes(4, "big")))) == []


def test_a_goaway_carries_the_last_stream_id() -> None:
    frames = greeted()
    payload = (5).to_bytes(4, "big") + (11).to_bytes(4, "big") + b"too_many_pings"
    assert list(frames.receive_data(frame(7, 0, 0, payload))) == [ConnectionTerminated(5, 11, "too_many_pings")]


@pytest.mark.parametrize(
    ("settings", "room"),
    [
        pytest.param((), 100, id="nothing was said yet"),
        pytest.param((b"",), 2**31 - 1, id="as many as you like"),
        pytest.param((setting(3, 7),), 7, id="seven"),
        pytest.param((setting(3, 100), b""), 100, id="a hundred, and nothing new"),
        pytest.param((b"", setting(3, 7)), 7, id="seven, from now on"),
        pytest.param((setting(99, 1),), 2**31 - 1, id="something of which nothing is known"),
    ],
)
def test_the_peer_limits_the_number_of_streams(settings: tuple[bytes, ...], room: int) -> None:
    frames = H2Codec(WINDOW)
    for one in settings:
        list(frames.receive_data(frame(SETTINGS, 0, 0, one)))
    assert frames.max_concurrent_streams == room
    assert [flags for kind, flags, *_ in sent(taken(frames)[24:]) if kind == SETTINGS] == [0] + [1] * len(settings)


def happened(data: bytes) -> list[H2Event]:
    frames = greeted()
    frames.open_stream(ASK)
    happened = list(frames.receive_data(data))
    while frames.has_more:
        happened += frames.receive_data(b"")
    return happened


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(0, 0, 0, b"x"), id="data on no stream"),
        pytest.param(frame(0, 0, 2, b"x"), id="data on a stream of the server's"),
        pytest.param(frame(0, 0, 3, b"x"), id="data on a stream that was never opened"),
        pytest.param(frame(0, 8, 1, b"\x05abc"), id="more padding than data"),
        pytest.param(frame(0, 8, 1, b""), id="padding without a length"),
        pytest.param(frame(1, 4, 0, b"\x88"), id="headers on no stream"),
        pytest.param(frame(1, 4, 1, b"\xff\xff\xff\xff\xff"), id="headers that cannot be decoded"),
        pytest.param(frame(1, 4, 1, b"\xbe"), id="headers from a place in the table where nothing is"),
        pytest.param(frame(1, 0, 1, b"") + frame(0, 0, 1, b"x"), id="data between headers and their rest"),
        pytest.param(frame(1, 0, 1, b"") + frame(9, 4, 3, b""), id="the rest of headers on another stream"),
        pytest.param(frame(9, 4, 1, b""), id="the rest of no headers"),
        pytest.param(frame(1, 0, 1, b"x" * 16_384) + 70 * frame(9, 0, 1, b"x" * 16_384), id="headers without an end"),
        pytest.param(frame(3, 0, 0, bytes(4)), id="the end of no stream"),
        pytest.param(frame(3, 0, 1, bytes(3)), id="an end without a whole code"),
        pytest.param(frame(4, 0, 1, b""), id="settings on a stream"),
        pytest.param(frame(4, 0, 0, b"12345"), id="a part of a setting"),
        pytest.param(frame(4, 0, 0, setting(4, 2**31)), id="a window that is too wide"),
        pytest.param(frame(4, 0, 0, setting(5, 16_383)), id="frames that are too small"),
        pytest.param(frame(4, 0, 0, setting(5, 2**24)), id="frames that are too large"),
        pytest.param(frame(5, 4, 1, b"\0\0\0\2\x88"), id="a push"),
        pytest.param(frame(6, 0, 0, b"short"), id="a short ping"),
        pytest.param(frame(6, 0, 1, bytes(8)), id="a ping on a stream"),
        pytest.param(frame(7, 0, 0, b"short"), id="a short GOAWAY"),
        pytest.param(frame(7, 0, 1, bytes(8)), id="a GOAWAY on a stream"),
        pytest.param(frame(8, 0, 0, bytes(4)), id="a window wider by nothing"),
        pytest.param(frame(8, 0, 0, bytes(3)), id="a part of a number"),
        pytest.param(frame(8, 0, 0, (2**31 - 1).to_bytes(4, "big")), id="a window wider than there is"),
        pytest.param(frame(8, 0, 1, (2**31 - 1).to_bytes(4, "big")), id="a stream's window wider than there is"),
        pytest.param(frame(0, 0, 1, b"x" * 16_385), id="a frame that is longer than we said"),
    ],
)
def test_an_invalid_frame_is_an_error_of_the_whole_connection(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        happened(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(2, 0, 1, bytes(5)), id="a priority"),
        pytest.param(frame(77, 255, 1, b"anything"), id="a kind of which nothing is known"),
        pytest.param(frame(8, 0, 99, b"\0\0\0\1"), id="a wider window of a stream that is over"),
        pytest.param(frame(3, 0, 99, bytes(4)), id="the end of a stream that is over"),
        pytest.param(frame(4, 1, 0, b""), id="our settings, acknowledged"),
    ],
)
def test_frames_without_a_meaning_for_streams_cause_no_event(data: bytes) -> None:
    assert happened(data) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the peer speaks HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer does not speak HTTP/2"),
        (frame(6, 0, 0, bytes(8)), "the peer does not speak HTTP/2"),
        (b"\x15\x03\x01\x00\x02\x02\x16\0\0", "the peer does not speak HTTP/2"),
    ],
)
def test_a_peer_that_does_not_begin_with_http2_is_detected(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        list(H2Codec(WINDOW).receive_data(data))


@given(st.lists(st.binary(max_size=200)), st.lists(st.integers(1, 50), min_size=1))
def test_messages_are_complete_and_in_order_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    data, unframed, got, place = b"".join(map(encode_message, messages)), MessageDecoder(200), [], 0
    while data:
        size = cuts[place % len(cuts)]
        got += unframed.feed(data[:size])
        data, place = data[size:], place + 1
    assert got == messages
    assert unframed.error is None


def test_messages_after_a_compressed_one_are_ignored() -> None:
    unframed = MessageDecoder(100)
    assert unframed.feed(encode_message(b"one") + b"\1\0\0\0\1x" + encode_message(b"three")) == [b"one"]
    assert unframed.error is not None


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.0, "1u"), (1e-9, "1u"), (0.25, "250000u"), (99.0, "99000000u"), (100.0, "100000m"), (9e9, "99999999m")],
)
def test_a_timeout_is_eight_digits_at_most(seconds: float, header: str) -> None:
    assert encode_timeout(seconds) == header


@pytest.mark.parametrize("number", ["17", "-1", "", "٣", "1e1", pytest.param("9" * 5000, id="thousands of digits")])
def test_an_invalid_status_code_is_unknown(number: str) -> None:
    expected = "INVALID_ARGUMENT" if number == "٣" else "UNKNOWN"  # a digit, but none of a code
    assert status_of({}, {"grpc-status": number}) == Status(expected, "")
