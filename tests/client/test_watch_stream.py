"""Watches on a scripted stream: from where a broken one goes on, and which creation is answered by what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import pytest

from etcdleader._etcd.api import (
    Event,
    Header,
    KeyValue,
    WatchBroken,
    WatchCanceled,
    WatchCreated,
    WatchEvents,
    WatchMessage,
)
from etcdleader._etcd.messages import (
    ALL_WATCHES,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchResponse,
)
from etcdleader._etcd.watch_stream import Watches
from etcdleader.errors import EtcdRefusedError, EtcdUnavailableError
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend
from tests.helpers.scripted_stream import Opener, ScriptedStream

pytestmark = pytest.mark.anyio

RESET = EtcdUnavailableError("UNAVAILABLE: the connection was reset")


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


def header(revision: int) -> Header:
    return Header(cluster_id=1, member_id=2, revision=revision, raft_term=2)


class World:
    """A connection's watches, and the streams that they have opened."""

    def __init__(self) -> None:
        self.opener = Opener()
        self.logins_refused = 0
        self.watches = Watches(self.opener, self._refused)

    def _refused(self) -> None:
        self.logins_refused += 1

    @property
    def stream(self) -> ScriptedStream:
        return self.opener.last

    def watch(self, key: bytes = b"k", start_revision: int = 0) -> tuple[Any, list[WatchMessage]]:
        """A watch, and what it brings."""
        got: list[WatchMessage] = []
        return self.watches.add(key, b"", start_revision, got.append, 5.0), got

    async def break_stream(self) -> None:
        """The stream breaks; the next one stands when this returns."""
        before = len(self.opener.streams)
        self.stream.end(RESET)
        await anyio.sleep(2)
        assert len(self.opener.streams) == before + 1

    def starts(self) -> list[int]:
        """From which revisions the creations on the present stream ask to start; 0 is "now"."""
        return [request.start_revision for request in self.stream.sent if isinstance(request, WatchCreateRequest)]

    def cancelled(self) -> list[int]:
        """Which watches etcd was asked to cancel on the present stream."""
        return [request.watch_id for request in self.stream.sent if isinstance(request, WatchCancelRequest)]

    def asked_for_progress(self) -> int:
        """How often etcd was asked how far the watches are, on all streams."""
        return sum(isinstance(request, WatchProgressRequest) for one in self.opener.streams for request in one.sent)

    def report_progress(self, revision: int) -> None:
        """etcd says how far all watches of the stream are."""
        self.stream.bring(WatchResponse(header(revision), ALL_WATCHES))

    def created(self, watch_id: int, revision: int, **more: Any) -> None:
        """A creation is answered."""
        self.stream.bring(WatchResponse(header(revision), watch_id, created=True, **more))

    def happened(self, watch_id: int, *revisions: int, at: int = 0) -> None:
        """Events come, by default under the header of the last one; with none it is a progress notification."""
        events = [Event("put", KeyValue(b"k", mod_revision=revision)) for revision in revisions]
        self.stream.bring(WatchResponse(header(at or revisions[-1]), watch_id, events=events))

    def canceled(self, watch_id: int, **more: Any) -> None:
        """etcd ends a watch."""
        self.stream.bring(WatchResponse(header(0), watch_id, canceled=True, **more))


@pytest.fixture
async def world(anyio_backend: object) -> AsyncIterator[World]:
    world = World()
    yield world
    world.watches.close()
    await anyio.sleep(1)


def revisions(got: list[WatchMessage]) -> list[int]:
    return [event.kv.mod_revision for message in got if isinstance(message, WatchEvents) for event in message.events]


async def test_a_broken_watch_goes_on_after_its_last_event_though_the_header_ran_ahead(world: World) -> None:
    """While etcd catches up, an answer's header is at the store's revision: from there 2,000 events were lost.

    It is created at the last revision that it was told. For one that is to come, etcd would report no progress.
    """
    _, got = world.watch(start_revision=3)
    await anyio.sleep(1)
    world.created(1, revision=2000)
    world.happened(1, 5, 6, at=2000)
    await world.break_stream()
    assert world.starts() == [6]
    world.created(1, revision=2500)
    assert got[-1] == WatchCreated(6, resumed=True), "and what it is sure to bring begins there, too"
    world.happened(1, 7, 8, at=2500)
    await world.break_stream()
    assert world.starts() == [8]
    assert revisions(got) == [5, 6, 7, 8]


async def test_a_watch_without_events_goes_on_after_its_creation(world: World) -> None:
    """Whatever others on the stream have brought, and whatever a progress notification says: only its own events count."""
    _, got = world.watch(b"quiet")
    world.watch(b"busy")
    await anyio.sleep(1)
    world.created(1, revision=5)
    world.created(2, revision=5)
    world.happened(2, 40, 41)
    world.happened(1, at=900)
    await world.break_stream()
    assert world.starts() == [5, 41]
    assert [type(message) for message in got] == [WatchCreated, WatchBroken]


async def test_a_watch_that_did_not_stand_yet_begins_at_now_again(world: World) -> None:
    """And is not called resumed: nothing was promised before."""
    _, got = world.watch()
    await anyio.sleep(1)
    await world.break_stream()
    assert world.starts() == [0]
    world.created(1, revision=8)
    assert [message for message in got if isinstance(message, WatchCreated)] == [WatchCreated(8, resumed=False)]


async def test_events_before_the_resume_point_are_dropped(world: World) -> None:
    """A member may send again what came before the break."""
    _, got = world.watch(start_revision=5)
    await anyio.sleep(1)
    world.created(1, revision=4)
    world.happened(1, 5, 6)
    await world.break_stream()
    world.created(1, revision=6)
    world.happened(1, 5, 6, 7)
    assert revisions(got) == [5, 6, 7]


async def test_a_resumed_watch_takes_no_later_beginning_from_a_lagging_or_leading_member(world: World) -> None:
    """The header of the answer to a creation from a revision says nothing about the watch."""
    _, got = world.watch()
    await anyio.sleep(1)
    world.created(1, revision=20)
    await world.break_stream()
    world.created(1, revision=3)
    await world.break_stream()
    assert world.starts() == [20]
    assert [message for message in got if isinstance(message, WatchCreated)] == [
        WatchCreated(20),
        WatchCreated(20, resumed=True),
    ]


async def test_a_compacted_watch_ends_and_is_not_asked_for_again(world: World) -> None:
    """Whoever watched must read, and watch anew: between lies a gap."""
    _, got = world.watch(start_revision=3)
    world.watch(b"other")
    await anyio.sleep(1)
    world.created(1, revision=50)
    world.created(2, revision=50)
    world.canceled(1, compact_revision=30)
    last = got[-1]
    assert isinstance(last, WatchCanceled)
    assert last.compact_revision == 30
    world.happened(1, 51)
    await world.break_stream()
    assert world.starts() == [50]
    assert got[-1] is last, "nothing follows"


async def test_a_refused_creation_ends_its_own_watch_and_no_other(world: World) -> None:
    """etcd 3.5 answers it with the id of somebody else's watch."""
    _, first = world.watch(b"first")
    _, second = world.watch(b"second")
    await anyio.sleep(1)
    world.created(0, revision=5)
    world.created(0, revision=5, canceled=True, cancel_reason="rpc error: code = PermissionDenied: permission denied")
    refused = second[-1]
    assert isinstance(refused, WatchCanceled)
    assert isinstance(refused.error, EtcdRefusedError)
    assert refused.compact_revision == 0
    world.happened(0, 6)
    assert revisions(first) == [6]
    assert second == [refused]


async def test_a_refused_token_breaks_the_stream_and_ends_no_watch(world: World) -> None:
    """It is not the watch's fault: after another login it is asked for once more."""
    _, got = world.watch()
    await anyio.sleep(1)
    world.created(0, revision=5, canceled=True, cancel_reason="etcdserver: invalid auth token")
    await anyio.sleep(2)
    assert world.logins_refused >= 1
    assert len(world.opener.streams) == 2
    world.created(0, revision=6)
    assert [type(message) for message in got] == [WatchCreated], "a new login is no trouble"


async def test_a_creation_that_is_not_answered_in_time_ends_the_stream(world: World) -> None:
    """Answers to creations have no names, so one that is missing would make the next ones belong to the wrong watch."""
    _, got = world.watch()
    await anyio.sleep(4)
    world.watch(b"younger")
    await anyio.sleep(0.9)
    assert len(world.opener.streams) == 1
    await anyio.sleep(0.3)
    assert [stream.open for stream in world.opener.streams] == [False, True]
    assert world.starts() == [0, 0]
    assert [type(message) for message in got] == [WatchBroken]


async def test_a_late_answer_to_a_closed_watchs_creation_is_not_taken_for_the_next_ones(world: World) -> None:
    """It is cancelled at etcd, which serves it by then."""
    closed, silent = world.watch(b"closed")
    _, got = world.watch(b"open")
    await anyio.sleep(1)
    closed.close()
    world.created(1, revision=5)
    assert not got
    world.created(2, revision=9)
    assert got == [WatchCreated(9)]
    assert world.cancelled() == [1]
    world.happened(1, 10)
    world.canceled(1)
    world.happened(2, 11)
    assert not silent
    assert revisions(got) == [11]


async def test_a_closed_watch_is_silent_and_not_asked_for_again(world: World) -> None:
    closed, silent = world.watch(b"closed")
    world.watch(b"open")
    await anyio.sleep(1)
    world.created(1, revision=5)
    world.created(2, revision=5)
    closed.close()
    assert world.cancelled() == [1]
    world.happened(1, 6)
    await world.break_stream()
    assert world.starts() == [5]
    assert silent == [WatchCreated(5)]


async def test_a_watch_may_be_begun_and_closed_while_no_stream_stands(world: World) -> None:
    world.opener.failing = RESET
    closed, silent = world.watch(b"closed")
    _, got = world.watch(b"open")
    await anyio.sleep(3)
    closed.close()
    world.opener.failing = None
    await anyio.sleep(2)
    assert world.starts() == [0]
    world.created(1, revision=5)
    assert {type(message) for message in silent} == {WatchBroken}
    assert got[-1] == WatchCreated(5)


async def test_creations_that_are_answered_one_after_another_do_not_end_the_stream(world: World) -> None:
    """Hundreds are asked for at once when a stream has broken. So long as answers come, etcd is at it; to begin anew
    would only make it begin anew, too."""
    got = [world.watch(b"%d" % number)[1] for number in range(40)]
    await anyio.sleep(0.1)
    for number in range(40):
        await anyio.sleep(0.2)
        world.created(number, 7)
    assert len(world.opener.streams) == 1
    assert [type(message) for messages in got for message in messages] == [WatchCreated] * 40


async def test_a_creation_is_waited_for_no_longer_because_another_one_would_have_waited(world: World) -> None:
    """Managers with different ``retry`` share a connection."""
    world.watch()
    await anyio.sleep(0.2)
    got: list[WatchMessage] = []
    world.watches.add(b"other", b"", 0, got.append, 0.5)
    await anyio.sleep(0.1)  # the task has seen it, and waits for the answer to the one before it
    world.created(1, 7)
    await anyio.sleep(0.4)
    assert got == []
    await anyio.sleep(0.2)
    assert [type(message) for message in got] == [WatchBroken]


# A stream on which nothing comes. The watches have 5 s.


async def test_a_stream_at_rest_is_asked_for_progress_once_in_its_time_and_stays(world: World) -> None:
    _, got = world.watch()
    world.watch(b"other")
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    world.created(2, revision=5)
    for number in range(10):
        await anyio.sleep(5.1)
        assert world.asked_for_progress() == number + 1
        world.report_progress(5)
    assert len(world.opener.streams) == 1
    assert [type(message) for message in got] == [WatchCreated]


async def test_what_comes_by_itself_saves_the_question(world: World) -> None:
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    for revision in range(6, 20):
        await anyio.sleep(4)
        world.happened(1, revision)
    assert world.asked_for_progress() == 0
    await anyio.sleep(4.9)
    assert world.asked_for_progress() == 0
    await anyio.sleep(0.2)
    assert world.asked_for_progress() == 1


async def test_any_message_answers_the_question(world: World) -> None:
    """It shows that the stream works, as the report would. etcd drops that one when a watch is behind."""
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    for revision in range(6, 20):
        await anyio.sleep(9)
        world.happened(1, revision)
    assert world.asked_for_progress() == 14
    assert len(world.opener.streams) == 1


async def test_a_silent_stream_is_broken_and_loses_nothing(world: World) -> None:
    """The report is no evidence of what a watch has brought: where it goes on is decided by events."""
    _, got = world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    world.happened(1, 7)
    await anyio.sleep(5.1)
    world.report_progress(900)
    await anyio.sleep(9.9)
    assert len(world.opener.streams) == 1
    await anyio.sleep(0.3)
    assert [stream.open for stream in world.opener.streams] == [False, True]
    assert world.starts() == [7]
    world.created(1, revision=900)
    world.happened(1, 7, 8, at=900)
    assert [type(message) for message in got] == [WatchCreated, WatchEvents, WatchCreated, WatchEvents]
    assert got[2] == WatchCreated(7, resumed=True)
    assert revisions(got) == [7, 8]


async def test_the_endpoint_is_left_when_the_next_stream_is_silent_too(world: World) -> None:
    """The first time it may be that stream alone: calls on the same connection are answered, and others live on it.

    That one is no trouble to speak of. The next stream brings what it has not brought.
    """
    _, got = world.watch()
    for _ in range(2):
        await anyio.sleep(0.1)
        world.created(1, revision=5)
        await anyio.sleep(10.1)
    assert [end._elsewhere for end in world.opener.ends] == [False, True]
    assert [type(message) for message in got] == [WatchCreated, WatchCreated, WatchBroken]


async def test_a_stream_that_reported_progress_has_made_up_for_the_one_before_it(world: World) -> None:
    _, got = world.watch()
    for _ in range(5):
        await anyio.sleep(0.1)
        world.created(1, revision=5)
        await anyio.sleep(5.1)
        world.report_progress(5)
        await anyio.sleep(10.1)
    assert [end._elsewhere for end in world.opener.ends] == [False] * 5
    assert [type(message) for message in got] == [WatchCreated] * 5


async def test_an_etcd_that_never_reports_progress_costs_fewer_and_fewer_streams(world: World) -> None:
    """A proxy may not pass the question on, or a watch may be behind for long."""
    _, got = world.watch()
    created = 0
    for _ in range(36_000):
        await anyio.sleep(0.1)
        if len(world.opener.streams) > created:
            created = len(world.opener.streams)
            world.created(1, revision=5)
    assert 8 <= len(world.opener.streams) <= 18, "in an hour"
    assert 4 <= sum(isinstance(message, WatchBroken) for message in got) <= 9
    assert world.asked_for_progress() <= len(world.opener.streams)


async def test_without_watches_nothing_is_asked(world: World) -> None:
    watch, _ = world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    watch.close()
    world.canceled(1)
    await anyio.sleep(100)
    assert world.asked_for_progress() == 0
    assert len(world.opener.streams) == 1


async def test_the_least_patient_watch_decides(world: World) -> None:
    """Managers with different ``retry`` share a connection."""
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    await anyio.sleep(1)
    hasty = world.watches.add(b"hasty", b"", 0, lambda message: None, 0.5)
    await anyio.sleep(0.1)
    world.created(2, revision=5)
    await anyio.sleep(0.6)
    assert world.asked_for_progress() == 1
    world.report_progress(5)
    hasty.close()
    world.canceled(2)
    await anyio.sleep(4)
    assert world.asked_for_progress() <= 2, "with it, its haste goes"
    assert len(world.opener.streams) == 1


async def test_a_creation_that_is_awaited_is_question_enough(world: World) -> None:
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    await anyio.sleep(4.5)
    world.watch(b"other")
    await anyio.sleep(4.5)
    assert world.asked_for_progress() == 0
    world.created(2, revision=5)
    assert len(world.opener.streams) == 1
