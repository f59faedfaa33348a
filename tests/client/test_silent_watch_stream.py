"""A silent watch stream: the time of the progress request, and of the end of the stream. The watches have 5 s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from etcdleader._etcd.api import WatchBroken, WatchCreated, WatchEvents
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend
from tests.client.watching import World, revisions

pytestmark = pytest.mark.anyio


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


async def test_a_stream_at_rest_gets_one_progress_request_per_interval_and_stays(world: World) -> None:
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


async def test_an_event_makes_a_progress_request_unnecessary(world: World) -> None:
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


async def test_any_message_counts_as_the_response_to_a_progress_request(world: World) -> None:
    """It shows that the stream works, like a progress report. etcd drops the request if a watch is behind."""
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    for revision in range(6, 20):
        await anyio.sleep(9)
        world.happened(1, revision)
    assert world.asked_for_progress() == 14
    assert len(world.opener.streams) == 1


async def test_a_silent_stream_is_broken_and_loses_nothing(world: World) -> None:
    """The report is no evidence of what a watch has delivered. Only events determine where it resumes."""
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
    """The first time it may be this stream alone: calls on the same connection are answered.

    The first failure is not reported. The next stream delivers the missing events.
    """
    _, got = world.watch()
    for _ in range(2):
        await anyio.sleep(0.1)
        world.created(1, revision=5)
        await anyio.sleep(10.1)
    assert [end.retry_other_endpoint for end in world.opener.ends] == [False, True]
    assert [type(message) for message in got] == [WatchCreated, WatchCreated, WatchBroken]


async def test_a_stream_that_reported_progress_has_made_up_for_the_one_before_it(world: World) -> None:
    _, got = world.watch()
    for _ in range(5):
        await anyio.sleep(0.1)
        world.created(1, revision=5)
        await anyio.sleep(5.1)
        world.report_progress(5)
        await anyio.sleep(10.1)
    assert [end.retry_other_endpoint for end in world.opener.ends] == [False] * 5
    assert [type(message) for message in got] == [WatchCreated] * 5


async def test_an_etcd_that_never_reports_progress_costs_fewer_and_fewer_streams(world: World) -> None:
    """A proxy may not pass the request on, or a watch may be behind for long."""
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


async def test_without_watches_no_progress_is_requested(world: World) -> None:
    watch, _ = world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    watch.close()
    world.canceled(1)
    await anyio.sleep(100)
    assert world.asked_for_progress() == 0
    assert len(world.opener.streams) == 1


async def test_the_shortest_timeout_of_a_watch_counts(world: World) -> None:
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


async def test_a_pending_creation_replaces_a_progress_request(world: World) -> None:
    world.watch()
    await anyio.sleep(0.1)
    world.created(1, revision=5)
    await anyio.sleep(4.5)
    world.watch(b"other")
    await anyio.sleep(4.5)
    assert world.asked_for_progress() == 0
    world.created(2, revision=5)
    assert len(world.opener.streams) == 1
