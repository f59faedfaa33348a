"""Any bytes from a peer are events or a ``ProtocolError`` for the codec. A connection raises nothing into its loop.

``make fuzz`` tries more examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import get_args

import anyio
import h2.config
import h2.connection
import hpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcdleader._grpc import Connection, ProtocolError, RpcError, Status
from etcdleader._grpc.connection_state import State
from etcdleader._grpc.events import H2Event
from etcdleader._grpc.frames import H2Codec
from etcdleader._grpc.framing import MessageDecoder, status_of
from etcdleader._grpc.hpack import HeaderDecoder, encode_headers
from tests.grpc.http2_client import PATH, PATIENCE, make_connection
from tests.grpc.http2_server import HEADERS, OK, framed
from tests.grpc.null_transport import connect_without_peer, frame

# No deadline: a busy machine may stop any example for a while.
ANY = settings(deadline=None, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "300")))
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
ASK = encode_headers(((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"server:1")))


def conversation() -> bytes:
    """Return the bytes of a server that answers a call on stream 1, and sends two messages on stream 3 and a ping."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    client = H2Codec(2**16)
    for _ in range(2):
        client.send_data(client.open_stream(ASK), b"")
    server.receive_data(client.data_to_send())
    for number in (1, 3):
        server.send_headers(number, HEADERS)
    server.send_data(1, framed(b"answer"))
    server.send_headers(1, list(OK), end_stream=True)
    server.ping(b"12345678")
    server.send_data(3, framed(b"one") + framed(b"two"), pad_length=3)
    server.close_connection(additional_data=b"so long")
    return server.data_to_send()


CONVERSATION = conversation()
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from([":status", "grpc-status", "grpc-message", "content-type", "x"]),
        st.one_of(st.sampled_from(["0", "5", "200", "9" * 5000, "\x80", "%zz"]), st.text(max_size=20)),
    )
).map(lambda headers: hpack.Encoder().encode([(name.encode(), value.encode()) for name, value in headers]))
MESSAGES = st.tuples(st.binary(max_size=40), st.booleans()).map(lambda one: framed(one[0], compressed=one[1]))
OPEN = st.sampled_from([1, 3])  # the streams of the connection below
NUMBERS = st.integers(0, 2**32 - 1).map(lambda number: number.to_bytes(4, "big"))
SOUND = st.one_of(
    st.builds(frame, st.just(0), st.sampled_from([0, 0, 0, 1]), OPEN, MESSAGES),
    st.builds(frame, st.just(1), st.sampled_from([4, 4, 4, 5, 0]), OPEN, BLOCKS),
    st.builds(frame, st.just(4), st.just(0), st.just(0), st.just(b"")),
    st.builds(frame, st.just(6), st.sampled_from([0, 1]), st.just(0), st.just(bytes(8))),
    st.builds(frame, st.just(8), st.just(0), st.sampled_from([0, 1, 3]), st.just(b"\0\0\1\0")),
)
PADDED = st.builds(frame, st.integers(0, 1), st.sampled_from([8, 9, 0xC, 0xD, 0x2C]), OPEN, st.binary(max_size=12))
WILD = st.builds(
    frame,
    st.one_of(st.integers(0, 9), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 9, 0xD, 0x2D]), st.integers(0, 255)),
    st.one_of(st.just(0), OPEN, st.integers(0, 2**32 - 1)),
    st.one_of(
        st.sampled_from([b"", b"", bytes(8), b"x" * 16_384, b"x" * 16_385]),
        st.binary(max_size=40),
        BLOCKS,
        MESSAGES,
        NUMBERS,
        st.tuples(st.integers(0, 7), NUMBERS).map(lambda setting: setting[0].to_bytes(2, "big") + setting[1]),
    ),
)
DATA = st.one_of(
    st.binary(max_size=300),
    st.lists(st.one_of(SOUND, SOUND, PADDED, WILD), min_size=1, max_size=12).map(b"".join),
    # The conversation with some bytes replaced.
    st.lists(st.tuples(st.integers(0, len(CONVERSATION) - 1), st.integers(0, 255)), max_size=6).map(
        lambda changes: bytes(dict(changes).get(at, byte) for at, byte in enumerate(CONVERSATION))
    ),
)
CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    place = 0
    while data:
        size = cuts[place % len(cuts)]
        yield data[:size]
        data, place = data[size:], place + 1


@ANY
@given(data=DATA, cuts=CUTS, settled=st.booleans(), streams=st.integers(0, 3))
@example(CONVERSATION, [7], False, 2)
@example(SETTINGS + frame(1, 4, 1, hpack.Encoder().encode([("grpc-status", "9" * 5000)])), [60], False, 1)
def test_any_bytes_are_events_or_a_protocol_error(data: bytes, cuts: list[int], settled: bool, streams: int) -> None:
    frames = H2Codec(2**16)
    for _ in range(streams):
        frames.send_data(frames.open_stream(ASK), b"x" * 40_000)
    try:
        for piece in pieces(SETTINGS * settled + data, cuts):
            for happening in frames.receive_data(piece):
                assert isinstance(happening, get_args(H2Event))
    except ProtocolError:
        return


class Outcome:
    """The result of a connection with a call as stream 1 and a stream as stream 3 that received some bytes.

    Attributes:
        broken: How the received bytes ended the connection, if they did.
        result: The result of the call.
        ends: The ends of the stream.
    """

    def __init__(self) -> None:
        self.broken: Status | None = None
        self.result: bytes | Status | None = None
        self.ends: list[Status] = []

    async def of(self, data: bytes, cuts: list[int]) -> None:
        connection = make_connection("server:1")
        await connect_without_peer(connection)
        async with anyio.create_task_group() as group:
            group.start_soon(self._call, connection)
            await anyio.wait_all_tasks_blocked()
            connection.stream_stream(PATH, on_message=lambda _: None, on_close=self.ends.append)
            for piece in pieces(data, cuts):
                connection._data_received(piece)
            self.broken = connection._why if connection._state is State.CLOSED else None
            connection.close()

    async def _call(self, connection: Connection) -> None:
        try:
            self.result = await connection.unary_unary(PATH, b"ask", timeout=PATIENCE)
        except RpcError as error:
            self.result = error.status


@ANY
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(data=DATA, cuts=CUTS, settled=st.booleans())
@example(CONVERSATION, [7], False)
@example(frame(1, 5, 1, hpack.Encoder().encode([("grpc-status", "9" * 5000)])), [60], True)
def test_any_bytes_at_most_end_a_connection_and_each_call_and_stream_on_it_once(
    backend: str, data: bytes, cuts: list[int], settled: bool
) -> None:
    outcome = Outcome()
    anyio.run(outcome.of, SETTINGS * settled + data, cuts, backend=backend)
    assert len(outcome.ends) == 1
    assert outcome.result is not None
    # INTERNAL would be an exception that is not a ProtocolError.
    assert outcome.broken is None or outcome.broken.code == "UNAVAILABLE", outcome.broken


def test_the_unmodified_conversation_is_valid() -> None:
    """Otherwise its variations would test little."""
    outcome = Outcome()
    anyio.run(outcome.of, CONVERSATION, [1000])
    assert outcome.result == b"answer"
    assert [end.message for end in outcome.ends] == ["the peer is going away: so long"]


@ANY
@given(st.lists(st.binary(max_size=50)))
def test_any_bytes_are_messages_or_the_beginning_of_one(data: list[bytes]) -> None:
    unframed = MessageDecoder(30)
    messages = [message for piece in data for message in unframed.feed(piece)]
    assert all(framed(message) in b"".join(data) for message in messages)


@ANY
@given(st.lists(st.one_of(BLOCKS, st.binary(max_size=50))))
def test_any_blocks_are_headers_or_a_value_error(blocks: list[bytes]) -> None:
    unpacker = HeaderDecoder()
    for block in blocks:
        try:
            headers = unpacker.decode(block)
        except ValueError:
            return
        assert isinstance(status_of({}, headers), Status)


@ANY
@given(st.dictionaries(st.sampled_from([":status", "grpc-status", "grpc-message"]), st.text()))
@example({"grpc-status": "9" * 5000})
def test_any_headers_are_a_status(headers: dict[str, str]) -> None:
    assert status_of({}, headers).code
