"""A watch is created again after etcd has cancelled it, after growing pauses if etcd refused it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import anyio
import pytest

from etcdleader import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from etcdleader._election.watched_range import WatchedRange
from etcdleader._etcd.api import WatchBroken, WatchCanceled, WatchCreated, WatchEvents, WatchMessage, WatchSink

pytestmark = pytest.mark.anyio

RETRY = 8.0
LOST = EtcdUnavailableError("the stream was lost")
REFUSED = EtcdRefusedError("permission denied")
COMPACTED = EtcdUnavailableError("revision 3 was compacted")


class Handle:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Watches:
    """Records the watches that are created, and the reports of their owner."""

    def __init__(self) -> None:
        self.sinks: list[WatchSink] = []
        self.handles: list[Handle] = []
        self.created_at: list[float] = []
        self.reports: list[EtcdLeaderError | None] = []
        self.received: list[WatchMessage] = []
        self.uniform = random.uniform

    def watch(self, _key: bytes, _range_end: bytes, *, sink: WatchSink, timeout: float) -> Handle:
        assert timeout == RETRY
        self.sinks.append(sink)
        self.created_at.append(anyio.current_time())
        self.handles.append(Handle())
        return self.handles[-1]

    def watch_failed(self, _watcher: object, error: EtcdLeaderError) -> None:
        self.reports.append(error)

    def watch_recovered(self, _watcher: object) -> None:
        self.reports.append(None)

    def range(self, *, listened: bool = True) -> WatchedRange:
        api: Any = self
        listener = self if listened else None
        return WatchedRange(api, b"k", b"l", sink=self.received.append, retry=RETRY, listener=listener)


async def test_an_open_watch_is_not_created_again(anyio_backend: object) -> None:
    watches = Watches()
    watched = watches.range()
    await WatchedRange.open_all(watched)
    await WatchedRange.open_all(watched)
    assert len(watches.sinks) == 1


async def test_a_broken_stream_is_reported_once_it_recovers_and_changes_nothing_else(anyio_backend: object) -> None:
    watches = Watches()
    watched = watches.range()
    await WatchedRange.open_all(watched)
    watches.sinks[0](WatchBroken(LOST))
    assert (watches.reports, watches.received, watched.is_open) == ([LOST], [], True)
    resumed = WatchCreated(7, resumed=True)
    watches.sinks[0](resumed)
    assert (watches.reports, watches.received) == ([LOST, None], [resumed])


async def test_a_compacted_watch_is_created_again_at_once_and_is_no_failure(anyio_backend: object) -> None:
    watches = Watches()
    watched = watches.range()
    await WatchedRange.open_all(watched)
    created, compacted = WatchCreated(7), WatchCanceled(COMPACTED, 3)
    watches.sinks[0](created)
    await anyio.sleep(RETRY)
    watches.sinks[0](compacted)
    assert (watches.reports, watches.received, watched.is_open) == ([], [created, compacted], False)
    await WatchedRange.open_all(watched)
    assert watches.created_at[1] == watches.created_at[0] + RETRY


@pytest.mark.parametrize("compact_revision", [0, 3], ids=["cancelled", "compacted"])
async def test_a_creation_alone_ends_no_pauses(anyio_backend: object, compact_revision: int) -> None:
    """etcd may cancel each watch right after it has created it, or a moment later."""
    watches = Watches()
    watched = watches.range()
    for _ in range(8):
        await WatchedRange.open_all(watched)
        watches.sinks[-1](WatchCreated(7))
        watches.sinks[-1](WatchCanceled(REFUSED, compact_revision))
    times = watches.created_at
    for number, (earlier, later) in enumerate(itertools.pairwise(times)):
        longest = min(RETRY / 16 * 2**number, RETRY)
        assert longest / 2 <= later - earlier <= longest


async def test_the_pauses_after_refusals_grow_up_to_retry_and_end_with_a_watch_that_lasts(
    anyio_backend: object,
) -> None:
    watches = Watches()
    watched = watches.range()
    for _ in range(8):
        await WatchedRange.open_all(watched)
        watches.sinks[-1](WatchCanceled(REFUSED, 0))
    times = watches.created_at
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    for number, pause in enumerate(pauses):
        longest = min(RETRY / 16 * 2**number, RETRY)
        assert longest / 2 <= pause <= longest
    await WatchedRange.open_all(watched)
    watches.sinks[-1](WatchCreated(7, resumed=False))
    await anyio.sleep(RETRY)
    watches.sinks[-1](WatchCanceled(REFUSED, 0))
    refused_at = anyio.current_time()
    await WatchedRange.open_all(watched)
    assert anyio.current_time() - refused_at <= RETRY / 16
    assert watches.reports == [*[REFUSED] * 8, None, REFUSED]


async def test_several_ranges_wait_together_for_the_longest_pause(anyio_backend: object) -> None:
    watches = Watches()
    one, other = watches.range(), watches.range()
    await WatchedRange.open_all(one, other)
    for sink in list(watches.sinks):
        sink(WatchCanceled(REFUSED, 0))
    refused_at = anyio.current_time()
    await WatchedRange.open_all(one, other)
    assert anyio.current_time() - refused_at <= RETRY / 16
    assert (one.is_open, other.is_open) == (True, True)


async def test_closing_ends_the_watch_and_the_failure(anyio_backend: object) -> None:
    watches = Watches()
    watched = watches.range()
    await WatchedRange.open_all(watched)
    watches.sinks[0](WatchBroken(LOST))
    watched.close()
    assert (watches.handles[0].closed, watched.is_open, watches.reports) == (True, False, [LOST, None])
    watched.close()
    assert watches.reports == [LOST, None]


async def test_without_a_listener_only_the_messages_are_delivered(anyio_backend: object) -> None:
    watches = Watches()
    watched = watches.range(listened=False)
    watched.open()
    watches.sinks[0](WatchBroken(LOST))
    events = WatchEvents(())
    watches.sinks[0](events)
    watched.close()
    assert (watches.reports, watches.received) == ([], [events])
