"""The cost that a peer may cause, limit by limit, without a socket."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hpack
import pytest

from etcdleader._grpc import Status, limits
from etcdleader._grpc.events import DataReceived, H2Event, ProtocolError
from etcdleader._grpc.exchange import Exchange
from etcdleader._grpc.frames import H2Codec
from etcdleader._grpc.framing import MessageDecoder
from tests.grpc.test_frames import ASK, SETTINGS, frame, greeted, sent, setting, taken

WINDOW = 2**17
DATA = b"x" * 16_000
NOTHING = {
    "settings": frame(4, 1, 0, b""),
    "an answer to no ping": frame(6, 1, 0, bytes(8)),
    "empty data": frame(0, 0, 1, b""),
    "padding": frame(0, 8, 1, b"\x03\0\0\0"),
    "data of a closed stream": frame(0, 0, 3, b"x"),
    "headers of a closed stream": frame(1, 4, 3, b"\x88"),
    "the end of a closed stream": frame(3, 0, 3, bytes(4)),
    "a wider window": frame(8, 0, 1, b"\0\0\0\1"),
    "a GOAWAY": frame(7, 0, 0, bytes(8)),
    "a priority": frame(2, 0, 1, bytes(5)),
    "an unknown kind": frame(99, 0, 1, b"anything"),
}


def opened() -> H2Codec:
    """Return a connection with stream 1 open, and stream 3 closed."""
    frames = greeted(2**24)
    for _ in range(2):
        frames.open_stream(ASK)
    frames.reset_stream(3)
    taken(frames)
    return frames


def receive(frames: H2Codec, data: bytes) -> list[H2Event]:
    happened = list(frames.receive_data(data))
    while frames.has_more:
        happened += frames.receive_data(b"")
    return happened


@pytest.mark.parametrize("nothing", NOTHING)
def test_frames_without_content_are_counted(nothing: str) -> None:
    frames = opened()
    with pytest.raises(ProtocolError, match="more than 10000 frames without effect"):
        for _ in range(limits.MAX_USELESS_FRAMES + 2):
            receive(frames, NOTHING[nothing])


def test_control_frames_that_come_with_responses_are_not_limited() -> None:
    """etcd sends a ping and a window with each response."""
    frames = opened()
    for _ in range(3 * limits.MAX_USELESS_FRAMES):
        receive(frames, frame(6, 0, 0, bytes(8)) + frame(8, 0, 0, b"\0\0\0\1") + frame(0, 0, 1, b"\0"))
        taken(frames)


def test_responses_are_no_credit_for_a_flood() -> None:
    frames = opened()
    for _ in range(limits.MAX_USELESS_FRAMES):
        receive(frames, frame(0, 0, 1, b"\0"))
    with pytest.raises(ProtocolError, match="without effect"):
        for _ in range(limits.MAX_USELESS_FRAMES + 2):
            receive(frames, NOTHING["a priority"])


def test_an_idle_connection_may_stay_for_years() -> None:
    """Its peer responds to our pings, and sends as many."""
    frames = opened()
    for _ in range(3 * limits.MAX_USELESS_FRAMES):
        frames.ping()
        receive(frames, frame(6, 1, 0, bytes(8)) + frame(6, 0, 0, bytes(8)))
        taken(frames)


def test_large_headers_of_closed_streams_cost_more() -> None:
    frames = opened()
    block = frame(1, 4, 3, b"\x88" * 700)
    with pytest.raises(ProtocolError, match="without effect"):
        for _ in range(limits.MAX_USELESS_FRAMES // 10):
            receive(frames, block)


@pytest.mark.parametrize("kind", [6, 4])
def test_acknowledgements_are_queued_only_for_a_peer_that_reads(kind: int) -> None:
    frames = opened()
    for _ in range(3):
        for _ in range(limits.MAX_ACKNOWLEDGEMENTS):
            receive(frames, frame(kind, 0, 0, bytes(8) if kind == 6 else b""))
        taken(frames)
    with pytest.raises(ProtocolError, match="does not read the acknowledgements"):
        for _ in range(limits.MAX_ACKNOWLEDGEMENTS + 1):
            receive(frames, frame(kind, 0, 0, bytes(8) if kind == 6 else b""))


def test_the_number_of_frames_processed_at_a_time_is_limited() -> None:
    frames = opened()
    count = 3 * limits.FRAMES_PER_ITERATION - 1
    batches = [len(list(frames.receive_data(frame(0, 0, 1, b"x") * count)))]
    while frames.has_more:
        batches.append(len(list(frames.receive_data(b""))))
    assert batches == [limits.FRAMES_PER_ITERATION] * 2 + [limits.FRAMES_PER_ITERATION - 1]


@pytest.mark.parametrize("streams", [1, 4], ids=["of the stream", "of the connection"])
def test_data_beyond_the_connections_window_ends_the_connection(streams: int) -> None:
    """The connection's window is as large as that of each stream."""
    frames = greeted(WINDOW)
    numbers = [frames.open_stream(ASK) for _ in range(streams)]
    taken(frames)
    whole, rest = divmod(WINDOW, len(DATA))
    for place in range(whole):
        receive(frames, frame(0, 0, numbers[place % streams], DATA))
    receive(frames, frame(0, 0, numbers[0], bytes(rest)))
    with pytest.raises(ProtocolError, match="more data than the window of the"):
        receive(frames, frame(0, 0, numbers[-1], b"x"))


def test_data_beyond_a_streams_window_ends_a_connection_whose_own_window_is_open() -> None:
    frames = greeted(WINDOW)
    one, other = (frames.open_stream(ASK) for _ in range(2))
    taken(frames)

    def send(number: int, size: int) -> None:
        whole, rest = divmod(size, len(DATA))
        receive(frames, whole * frame(0, 0, number, DATA) + frame(0, 0, number, bytes(rest)))

    first = WINDOW * 9 // 20
    send(one, first)
    send(other, WINDOW // 10)
    taken(frames)  # opens the window of the connection, and not yet those of the streams
    send(one, WINDOW - first)
    with pytest.raises(ProtocolError, match="more data than the window of the stream"):
        send(one, 1)


def test_windows_are_reopened_when_the_output_is_sent() -> None:
    """A peer that reads nothing may send one window, and no more."""
    frames = greeted(WINDOW)
    number = frames.open_stream(ASK)
    taken(frames)
    for _ in range(5):
        receive(frames, frame(0, 0, number, DATA))
    assert frames.has_output
    assert frames.output == b""
    by = (5 * len(DATA)).to_bytes(4, "big")
    assert list(sent(taken(frames))) == [(8, 0, 0, by), (8, 0, number, by)]
    assert not frames.has_output


def test_the_largest_header_list_is_announced() -> None:
    settings = next(payload for kind, _, _, payload in sent(taken(H2Codec(WINDOW))[24:]) if kind == SETTINGS)
    assert setting(6, limits.HEADER_LIST) in [settings[at : at + 6] for at in range(0, len(settings), 6)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(1, 0, 1, b"\x88") + limits.MAX_HEADER_FRAMES * frame(9, 0, 1, b""), "in more than 8 frames"),
        (frame(1, 0, 1, bytes(16_384)) + 2 * frame(9, 0, 1, bytes(16_384)), "more than 32768 bytes"),
        (frame(1, 4, 1, hpack.Encoder().encode([("x", "y" * 4_000)]) + b"\xbe" * 9), "cannot be decoded"),
        (frame(SETTINGS, 0, 0, setting(4, 1) * (limits.MAX_SETTINGS + 1)), "more than 32 settings"),
        (frame(SETTINGS, 0, 0, setting(4, 2**31 - 1)) + frame(8, 0, 1, b"\0\0\0\1"), "a malformed frame"),
    ],
)
def test_headers_and_settings_have_limits(data: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        receive(opened(), data)


def calls_of(function: Callable[[], object]) -> int:
    """Return the number of function calls in it: a measure of work that is the same on every machine."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "flood",
    [
        frame(SETTINGS, 0, 0, limits.MAX_SETTINGS * setting(4, 1)),
        frame(8, 0, 1, b"\0\0\0\1"),
        frame(8, 0, 0, b"\0\0\0\1"),
    ],
    ids=["settings", "a window", "the window of the connection"],
)
def test_a_flood_costs_no_more_if_many_calls_wait_for_the_peer(flood: bytes) -> None:
    def cost(calls: int) -> int:
        frames = greeted(2**24, setting(4, 0))
        for _ in range(calls):
            frames.send_data(frames.open_stream(ASK), b"x", last=True)
        taken(frames)
        return calls_of(lambda: list(frames.receive_data(100 * flood)))

    assert cost(1_000) <= cost(1) + 20 * 1_000, "each is looked at once, and not for each frame"


def test_a_call_costs_no_more_if_many_others_wait_for_the_peer() -> None:
    frames = greeted(2**24, setting(4, 0))
    costs = []
    for _ in range(1_000):
        number = frames.open_stream(ASK)
        costs.append(calls_of(lambda number=number: frames.send_data(number, b"x", last=True)))  # type: ignore[misc]
    assert costs[-1] <= costs[0] + 2


def test_a_frame_with_many_messages_is_processed_alone() -> None:
    frames = opened()
    pieces = frame(0, 0, 1, bytes(16_384))
    assert len(list(frames.receive_data(3 * pieces))) == 1
    assert frames.has_more


def test_data_is_moved_to_the_output_in_parts_until_all_is_moved() -> None:
    """Data that has not been moved yet is dropped with its call."""
    frames = opened()
    receive(frames, frame(SETTINGS, 0, 0, setting(4, 2**31 - 1)) + frame(8, 0, 0, b"\x7f\0\0\0"))
    taken(frames)
    frames.send_data(1, bytes(2**21))
    assert len(frames.output) < limits.OUTPUT_AT_A_TIME + 2**15
    assert frames.unsent_bytes(1) > 2**20
    total = 0
    while data := taken(frames):
        assert len(data) < limits.OUTPUT_AT_A_TIME + 2**15
        total += sum(len(payload) for kind, _, _, payload in sent(data) if kind == 0)
    assert total == 2**21
    frames.send_data(1, bytes(2**21))
    frames.reset_stream(1)
    assert len(frames.output) < limits.OUTPUT_AT_A_TIME + 2**15
    assert frames.unsent_bytes(1) == 0


@pytest.mark.parametrize("cut", [1, 4, 5, 30])
def test_a_message_has_a_limit_that_its_first_bytes_show(cut: int) -> None:
    def take(data: bytes) -> tuple[list[bytes], Status | None]:
        return unframed.feed(data), unframed.error

    unframed, whole = MessageDecoder(50), b"\0\0\0\0\x32" + bytes(50)
    assert take(whole) == ([bytes(50)], None)
    assert take(whole[:cut]) == ([], None)
    assert take(whole[cut:]) == ([bytes(50)], None)
    too_long = b"\0\0\0\0\x33"
    ends = [take(too_long[at : at + cut]) for at in range(0, 5, cut)]
    why = Status("RESOURCE_EXHAUSTED", "a message of 51 bytes is longer than max_recv_bytes = 50")
    assert ends == [([], None)] * (len(ends) - 1) + [([], why)]
    assert unframed.buffered == 0


def test_a_response_has_headers_once_after_a_few_informational_ones() -> None:
    def exchange() -> Exchange:
        return Exchange(print, print, is_call=False, max_recv_bytes=50)

    one = exchange()
    for _ in range(limits.MAX_HEADER_BLOCKS - 2):
        assert one.receive_headers({":status": "103"}) is None
    assert one.receive_headers({":status": "200"}) is None
    assert "more header blocks" in str(one.receive_headers({":status": "200"}))
    other = exchange()
    ends = [other.receive_headers({":status": "103"}) for _ in range(limits.MAX_HEADER_BLOCKS)]
    assert [end is None for end in ends] == [True] * (limits.MAX_HEADER_BLOCKS - 1) + [False]


def test_padding_is_no_data() -> None:
    frames = opened()
    assert receive(frames, frame(0, 8, 1, b"\x03\0\0\0")) == [DataReceived(1, b"", stream_ended=False)]
