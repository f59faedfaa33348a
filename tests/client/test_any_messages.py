"""Any message from etcd on its two streams is delivered, or the stream ends. Nothing is raised into the loop."""

from __future__ import annotations

import os
from typing import Any, Literal

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcdleader import EtcdUnavailableError
from etcdleader._etcd.api import Header, KeepAlive, KeyValue, WatchEvent
from etcdleader._etcd.lease_stream import KeepAliveStream
from etcdleader._etcd.messages import ALL_WATCHES, WatchResponse
from etcdleader._etcd.rpcs import LEASE_KEEP_ALIVE, WATCH
from etcdleader._etcd.stream import Http2Stream, StreamCallbacks
from etcdleader._grpc import Status
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS
from tests.client.watching import World
from tests.helpers.scripted_stream import Opener
from tests.helpers.virtual_run import run_virtually

ANY = settings(deadline=None, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")))
REVISIONS = st.integers(-1, 9)
HEADERS = st.builds(Header, st.integers(0, 2), st.integers(0, 2), REVISIONS, st.integers(0, 3))
EVENTS = st.builds(
    lambda kind, revision: WatchEvent(kind, KeyValue(b"k", mod_revision=revision)),
    st.sampled_from(["put", "delete"]),
    REVISIONS,
)
RESPONSES = st.builds(
    WatchResponse,
    HEADERS,
    st.one_of(st.integers(0, 3), st.just(ALL_WATCHES), st.integers(-(2**63), 2**63 - 1)),
    created=st.booleans(),
    canceled=st.booleans(),
    compact_revision=st.sampled_from([0, 0, 5]),
    cancel_reason=st.sampled_from(["", "permission denied", "invalid auth token", "\x00\x9b"]),
    events=st.lists(EVENTS, max_size=3),
)
CREATED = WatchResponse(Header(1, 2, 5, 2), 0, created=True)


@pytest.mark.parametrize("backend", VIRTUAL_BACKENDS)
@ANY
@given(responses=st.lists(RESPONSES, max_size=8), watches=st.integers(0, 2))
@example([CREATED], 0)
@example([CREATED, CREATED], 2)
@example([CREATED, CREATED], 1)
def test_any_responses_on_a_watch_stream_raise_nothing(
    backend: Literal["asyncio", "trio"], responses: list[WatchResponse], watches: int
) -> None:
    async def main() -> None:
        world = World()
        opening, _ = world.watch(b"one that opens the stream")
        for _ in range(watches):
            world.watch()
        await anyio.sleep(1)
        if not watches:
            world.created(7, revision=5)
            opening.close()
        for response in responses:
            world.stream.bring(response)
        assert len(world.watches._pending_creates) <= 1 + watches
        world.watches.close()
        await anyio.sleep(2)

    run_virtually(main, backend)


@pytest.mark.parametrize("backend", VIRTUAL_BACKENDS)
@ANY
@given(answers=st.lists(st.builds(KeepAlive, st.integers(0, 3), st.integers(-1, 9), HEADERS), max_size=8))
def test_any_answers_on_a_keep_alive_stream_raise_nothing(
    backend: Literal["asyncio", "trio"], answers: list[KeepAlive]
) -> None:
    async def main() -> None:
        opener = Opener()
        keep_alives = KeepAliveStream(opener)
        async with anyio.create_task_group() as group:
            group.start_soon(keep_alives.send, [1, 2], 5)
            await anyio.sleep(1)
            for answer in answers:
                opener.last.bring(answer)

    run_virtually(main, backend)


class _Connection:
    """A connection that passes its stream to the test."""

    ended = None

    def stream_stream(self, path: str, *, metadata: Any, on_message: Any, on_close: Any) -> Any:
        self.bring, self.close = on_message, on_close
        return self

    def cancel(self) -> None:
        """Deliver no more messages."""


@ANY
@given(st.lists(st.binary(max_size=60)), st.sampled_from([WATCH, LEASE_KEEP_ALIVE]))
@example([b"\xff"], WATCH)
def test_any_bytes_on_a_stream_of_etcd_are_messages_or_its_end(serialized: list[bytes], rpc: Any) -> None:
    got: list[Any] = []
    ends: list[Any] = []
    connection = _Connection()
    use = StreamCallbacks(lambda _: None, got.append, ends.append, lambda *_: None)
    Http2Stream(rpc, (), use, "member:1", lambda status: EtcdUnavailableError(status.message), connection)  # type: ignore[arg-type]
    for one in serialized:
        if not ends:
            connection.bring(one)
    connection.close(Status("OK", ""))
    assert len(ends) == 1
    assert len(got) <= len(serialized)
