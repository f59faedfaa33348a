"""Each state of a connection, with each possible event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import product

import anyio
import anyio.abc
import hpack
import pytest

from etcdleader._grpc import RpcError, Status
from etcdleader._grpc.connection_state import TRANSITIONS, State
from tests.grpc.http2_client import PATH, PATIENCE, make_connection
from tests.grpc.http2_server import HEADERS, OK, framed
from tests.grpc.null_transport import connect_without_peer, frame

pytestmark = pytest.mark.anyio

ALL, NONE = 2**31 - 1, 0


def goaway(last: int) -> bytes:
    return frame(7, 0, 0, last.to_bytes(4, "big") + bytes(4))


def one_at_a_time() -> bytes:
    return frame(4, 0, 0, b"\0\3" + (1).to_bytes(4, "big"))


def answer(number: int) -> bytes:
    headers, trailers = (hpack.Encoder().encode(list(one)) for one in (HEADERS, OK))
    return frame(1, 4, number, headers) + frame(0, 0, number, framed(b"answer")) + frame(1, 5, number, trailers)


class Subject:
    """A connection, and the ends of the calls and streams on it."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.connection = make_connection("server:1")
        self.begun = 0
        self.ends: list[Status] = []
        self._group = group

    @property
    def last_id(self) -> int:
        return self.connection._codec._next_stream_id

    async def connect(self) -> None:
        await connect_without_peer(self.connection)

    async def call(self) -> None:
        self.begun += 1
        self._group.start_soon(self._call)
        await anyio.wait_all_tasks_blocked()

    async def _call(self) -> None:
        try:
            assert await self.connection.unary_unary(PATH, b"ask", timeout=PATIENCE) == b"answer"
        except RpcError as error:
            self.ends.append(error.status)
        else:
            self.ends.append(Status("OK", ""))

    async def call_with_the_last_id(self) -> None:
        self.connection._codec._next_stream_id = ALL
        await self.call()

    async def stream(self) -> None:
        self.begun += 1
        try:
            self.connection.stream_stream(PATH, metadata=(), on_message=lambda _: None, on_close=self.ends.append)
        except RpcError as error:
            self.ends.append(error.status)

    async def receive(self, data: bytes) -> None:
        self.connection._data_received(frame(4, 0, 0, b"") + data)
        await anyio.wait_all_tasks_blocked()

    async def lose(self) -> None:
        async def read() -> None:
            raise anyio.EndOfStream

        await self.connection._guarded(read)

    async def close(self) -> None:
        self.connection.close()
        await anyio.wait_all_tasks_blocked()


Input = Callable[[Subject], Awaitable[None]]
INPUTS: dict[str, Input] = {
    "connected": Subject.connect,
    "call": Subject.call,
    "last id": Subject.call_with_the_last_id,
    "stream": Subject.stream,
    "GOAWAY": lambda one: one.receive(goaway(ALL)),
    "GOAWAY for all": lambda one: one.receive(goaway(NONE)),
    "answer": lambda one: one.receive(answer(1)),
    "garbage": lambda one: one.receive(b"HTTP/1.1 400 Bad Request\r\n"),
    "lost": Subject.lose,
    "close": Subject.close,
}


async def idle(one: Subject) -> None:
    """Do nothing."""


async def opened(one: Subject) -> None:
    await one.connect()
    await one.call()
    await one.stream()


async def draining(one: Subject) -> None:
    await opened(one)
    await one.receive(goaway(ALL))


async def closed(one: Subject) -> None:
    await opened(one)
    await one.close()


SETUPS: dict[str, tuple[State, Input]] = {
    "idle": (State.IDLE, idle),
    "open": (State.OPEN, opened),
    "draining": (State.DRAINING, draining),
    "closed": (State.CLOSED, closed),
    "closed early": (State.CLOSED, Subject.close),
}
IDLE, OPEN, DRAINING, CLOSED, NEVER = State.IDLE, State.OPEN, State.DRAINING, State.CLOSED, None
"""NEVER: a connection is connected once, and the peer can close it only after that."""
NEXT: dict[str, tuple[State | None, ...]] = {
    # In the order of SETUPS.
    "connected": (OPEN, NEVER, NEVER, NEVER, CLOSED),
    "call": (IDLE, OPEN, DRAINING, CLOSED, CLOSED),
    "last id": (IDLE, DRAINING, DRAINING, CLOSED, CLOSED),
    "stream": (IDLE, OPEN, DRAINING, CLOSED, CLOSED),
    "GOAWAY": (CLOSED, DRAINING, DRAINING, CLOSED, CLOSED),
    "GOAWAY for all": (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED),
    "answer": (CLOSED, OPEN, CLOSED, CLOSED, CLOSED),
    "garbage": (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED),
    "lost": (NEVER, CLOSED, CLOSED, CLOSED, NEVER),
    "close": (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED),
}
PAIRS = [
    pytest.param(name, what, after, id=f"{name}, {what}")
    for what, states in NEXT.items()
    for name, after in zip(SETUPS, states, strict=True)
    if after is not NEVER
]


@pytest.mark.parametrize(("name", "what", "after"), PAIRS)
async def test_state_and_event_determine_the_next_state(name: str, what: str, after: State) -> None:
    before, set_up = SETUPS[name]
    async with anyio.create_task_group() as group:
        one = Subject(group)
        connection = one.connection
        await set_up(one)
        assert connection._state is before
        begun, last_id = one.begun, one.last_id
        await INPUTS[what](one)
        assert connection._state is after
        assert connection.is_open is (after is State.OPEN)
        if one.begun > begun:
            begins = one.last_id > max(last_id, ALL if what == "last id" else 0)
            assert begins is (before is State.OPEN), "only an open connection begins something"
            if not begins:
                assert one.ends[-1].unprocessed
        connection.close()
    assert len(one.ends) == one.begun, "each call and each stream ends, and ends once"
    with anyio.fail_after(PATIENCE):
        await connection.wait_closed()


def test_every_state_is_tested_with_every_event() -> None:
    assert NEXT.keys() == INPUTS.keys()
    assert {state for state, _ in SETUPS.values()} == set(State)


@pytest.mark.parametrize(("before", "after"), list(product(State, State)), ids=lambda state: state.name)
async def test_a_change_that_the_table_does_not_have_changes_nothing(before: State, after: State) -> None:
    connection = make_connection("server:1")
    connection._state = before
    why = connection._why
    changes = connection._enter(after, Status("UNAVAILABLE", "the peer is going away"))
    assert changes is (after in TRANSITIONS[before])
    assert connection._state is (after if changes else before)
    assert (connection._why is why) is not changes


@pytest.mark.parametrize("what", ["GOAWAY", "GOAWAY for all", "garbage", "lost", "close"])
async def test_calls_that_wait_for_a_slot_fail_at_once_if_the_connection_accepts_none(what: str) -> None:
    async with anyio.create_task_group() as group:
        one = Subject(group)
        await one.connect()
        await one.receive(one_at_a_time())
        for _ in range(4):
            await one.call()
        assert one.connection._calls.waiting == 3
        await INPUTS[what](one)
        await anyio.wait_all_tasks_blocked()
        assert sum(end.unprocessed for end in one.ends) >= 3
        assert one.connection._calls.waiting == 0
        one.connection.close()
    assert len(one.ends) == 4


async def test_a_stream_whose_end_closes_the_connection_ends_the_others_once(anyio_backend: object) -> None:
    async with anyio.create_task_group() as group:
        one = Subject(group)
        await one.connect()
        ends: list[Status] = []

        def on_close(status: Status) -> None:
            ends.append(status)
            one.connection.close()

        for _ in range(3):
            one.connection.stream_stream(PATH, metadata=(), on_message=lambda _: None, on_close=on_close)
        await one.receive(goaway(ALL))
    assert len(ends) == 3
