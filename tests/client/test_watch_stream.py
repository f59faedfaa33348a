"""Watches on a scripted stream: where a broken one resumes, and which response belongs to which creation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from etcdleader._etcd.api import WatchBroken, WatchCanceled, WatchCreated, WatchEvents, WatchMessage
from etcdleader._etcd.error_mapping import GoingAwayError
from etcdleader.errors import EtcdRefusedError
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend
from tests.client.watching import RESET, World, revisions

pytestmark = pytest.mark.anyio

GOING_AWAY = GoingAwayError("member:1: the peer is going away: code 0")


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


async def test_a_broken_watch_resumes_after_its_last_event_even_if_the_header_is_ahead(world: World) -> None:
    """While etcd catches up, a response's header is at the store's revision. From there 2,000 events were lost.

    It is created at the last revision that it received. For a future one, etcd would report no progress.
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


async def test_a_watch_without_events_resumes_after_its_creation(world: World) -> None:
    """Events of other watches on the stream and progress notifications do not count: only its own events do."""
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


async def test_a_watch_that_was_not_created_yet_begins_at_the_current_revision_again(world: World) -> None:
    """It is not called resumed, because nothing was promised before."""
    _, got = world.watch()
    await anyio.sleep(1)
    await world.break_stream()
    assert world.starts() == [0]
    world.created(1, revision=8)
    assert [message for message in got if isinstance(message, WatchCreated)] == [WatchCreated(8, resumed=False)]


async def test_events_before_the_resume_point_are_dropped(world: World) -> None:
    """A member may send again what was delivered before the break."""
    _, got = world.watch(start_revision=5)
    await anyio.sleep(1)
    world.created(1, revision=4)
    world.happened(1, 5, 6)
    await world.break_stream()
    world.created(1, revision=6)
    world.happened(1, 5, 6, 7)
    assert revisions(got) == [5, 6, 7]


async def test_a_resumed_watch_keeps_its_start_revision_on_a_lagging_or_leading_member(world: World) -> None:
    """The header of the response to a creation from a revision has no information about the watch."""
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


async def test_a_compacted_watch_ends_and_is_not_requested_again(world: World) -> None:
    """The watcher must read, and create a new watch: there is a gap between."""
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
    """etcd 3.5 answers it with the id of another watch."""
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
    """The watch is not at fault: after another login it is requested again."""
    _, got = world.watch()
    await anyio.sleep(1)
    world.created(0, revision=5, canceled=True, cancel_reason="etcdserver: invalid auth token")
    await anyio.sleep(2)
    assert world.logins_refused >= 1
    assert len(world.opener.streams) == 2
    world.created(0, revision=6)
    assert [type(message) for message in got] == [WatchCreated], "a new login is no trouble"


async def test_a_creation_that_is_not_answered_in_time_ends_the_stream(world: World) -> None:
    """Responses to creations have no names. A missing one would assign the next ones to the wrong watches."""
    _, got = world.watch()
    await anyio.sleep(4)
    world.watch(b"younger")
    await anyio.sleep(0.9)
    assert len(world.opener.streams) == 1
    await anyio.sleep(0.3)
    assert [stream.open for stream in world.opener.streams] == [False, True]
    assert world.starts() == [0, 0]
    assert [type(message) for message in got] == [WatchBroken]


async def test_a_late_response_to_a_closed_watchs_creation_is_not_credited_to_the_next_one(world: World) -> None:
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


async def test_a_closed_watch_is_silent_and_not_requested_again(world: World) -> None:
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


async def test_a_watch_may_be_created_and_closed_without_a_stream(world: World) -> None:
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
    """Hundreds are requested at once when a stream has broken. While responses arrive, etcd is making progress.

    A new stream would only make etcd start from the beginning.
    """
    got = [world.watch(b"%d" % number)[1] for number in range(40)]
    await anyio.sleep(0.1)
    for number in range(40):
        await anyio.sleep(0.2)
        world.created(number, 7)
    assert len(world.opener.streams) == 1
    assert [type(message) for messages in got for message in messages] == [WatchCreated] * 40


async def test_a_longer_timeout_of_one_watch_does_not_delay_another(world: World) -> None:
    """Managers with different ``retry`` share a connection."""
    world.watch()
    await anyio.sleep(0.2)
    got: list[WatchMessage] = []
    world.watches.add(b"other", b"", 0, got.append, 0.5)
    await anyio.sleep(0.1)  # the task has seen it, and waits for the response to the one before
    world.created(1, 7)
    await anyio.sleep(0.4)
    assert got == []
    await anyio.sleep(0.2)
    assert [type(message) for message in got] == [WatchBroken]


@pytest.mark.parametrize("watches", [0, 1])
async def test_a_watch_creation_without_a_request_ends_the_stream(world: World, watches: int) -> None:
    """On trio an exception in its place ended the program."""
    first, _ = world.watch(b"first")
    await anyio.sleep(1)
    world.created(1, revision=5)
    if not watches:
        first.close()
    world.created(2, revision=5)
    assert "the creation of a watch that was not requested" in str(world.opener.ends[-1])
    await anyio.sleep(2)
    assert len(world.opener.streams) == 1 + watches, "a stream is opened for the open watches"


async def test_a_second_creation_with_the_same_id_ends_the_stream(world: World) -> None:
    """Its events could not be distinguished from those of the first watch."""
    _, first = world.watch(b"first")
    _, second = world.watch(b"second")
    await anyio.sleep(1)
    world.created(1, revision=5)
    world.created(1, revision=5)
    assert "watch 1 twice" in str(world.opener.ends[-1])
    await anyio.sleep(2)
    world.created(1, revision=7)
    world.created(2, revision=7)
    assert first[-1] == WatchCreated(5, resumed=True)
    assert second[-1] == WatchCreated(7)


async def test_events_that_could_not_be_processed_are_received_again(world: World) -> None:
    """A lost one might be the end of a leader's own key."""
    got: list[WatchMessage] = []

    def sink(message: WatchMessage) -> None:
        if isinstance(message, WatchEvents) and not any(isinstance(one, WatchBroken) for one in got):
            raise ZeroDivisionError
        got.append(message)

    world.watches.add(b"k", b"", 0, sink, 5.0)
    await anyio.sleep(1)
    world.created(1, revision=5)
    with pytest.raises(ZeroDivisionError):
        world.happened(1, 6)
    await world.break_stream()
    assert world.starts() == [5]
    world.created(1, revision=6)
    world.happened(1, 6)
    assert revisions(got) == [6]


async def test_a_sink_that_raises_at_a_break_ends_no_task(world: World) -> None:
    """trio ends a program if a system task fails."""

    def sink(message: WatchMessage) -> None:
        raise ZeroDivisionError

    world.watches.add(b"k", b"", 0, sink, 5.0)
    await anyio.sleep(1)
    await world.break_stream()
    await world.break_stream()


async def test_a_watch_that_is_created_and_then_breaks_is_created_again_once_a_second(world: World) -> None:
    """A proxy that cuts each stream does this. Each creation is work for etcd."""
    world.watch()
    await anyio.sleep(1)
    started = anyio.current_time()
    while anyio.current_time() < started + 60:
        if world.stream.open:
            world.created(1, revision=5)
            world.stream.end(RESET)
        await anyio.sleep(0.01)
    assert 50 <= len(world.opener.streams) <= 70


async def test_a_watch_that_breaks_after_a_while_is_created_again_at_once(world: World) -> None:
    world.watch()
    await anyio.sleep(1)
    for number in range(1, 8):
        world.created(1, revision=5)
        world.happened(1, 5 + number)
        for _ in range(6):
            await anyio.sleep(1)
            world.report_progress(5 + number)
        world.stream.end(RESET)
        await anyio.sleep(0.06)
        assert len(world.opener.streams) == number + 1


async def test_a_goaway_costs_a_watch_a_new_stream_and_is_not_reported(world: World) -> None:
    """This is a planned restart, or a proxy that renews its connections."""
    _, got = world.watch()
    await anyio.sleep(1)
    world.created(1, revision=5)
    world.stream.end(GOING_AWAY)
    await anyio.sleep(1)
    world.created(1, revision=5)
    assert got == [WatchCreated(5), WatchCreated(5, resumed=True)]


async def test_a_goaway_is_reported_if_the_next_stream_fails_too(world: World) -> None:
    _, got = world.watch()
    await anyio.sleep(1)
    world.created(1, revision=5)
    for error in (GOING_AWAY, GOING_AWAY):  # the second one comes before any other message
        world.stream.end(error)
        await anyio.sleep(1)
    assert got == [WatchCreated(5), WatchBroken(GOING_AWAY)]
    world.opener.failing = RESET
    world.created(1, revision=5)
    world.stream.end(GOING_AWAY)
    await anyio.sleep(0.5)
    assert got[-1] == WatchBroken(RESET)
    world.opener.failing = None


@pytest.mark.parametrize(("silence", "reported"), [(29, True), (31, False)])
async def test_a_cut_idle_stream_costs_a_new_stream_and_is_not_reported(
    world: World, silence: float, *, reported: bool
) -> None:
    """Proxies do it after a minute, by default. With a long `retry` nothing is sent meanwhile."""
    got: list[WatchMessage] = []
    world.watches.add(b"k", b"", 0, got.append, 3600.0)
    await anyio.sleep(1)
    world.created(1, revision=5)
    await anyio.sleep(silence)
    await world.break_stream()
    world.created(1, revision=5)
    assert (WatchBroken(RESET) in got) is reported
    assert got[-1] == WatchCreated(5, resumed=True)
