"""Watches as the election requires them of etcd, on the fake and on the real etcd alike.

To show that an event does *not* arrive, a test waits for a later message on the same stream. It never waits for a time.
"""

from __future__ import annotations

import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import DeleteRange, EtcdApi, KeyValue, Operation, Put, WatchCreated, WatchEvent, WatchEvents
from tests.contract.watching import TIMEOUT, Recorder
from tests.contract.world import World

pytestmark = pytest.mark.anyio


async def _do(api: EtcdApi, *operations: Operation) -> int:
    return (await api.txn([], operations, timeout=TIMEOUT)).header.revision


def _seen(events: object) -> list[tuple[str, bytes, int]]:
    assert isinstance(events, list)
    return [(event.type, event.kv.key, event.kv.mod_revision) for event in events]


async def test_a_watch_from_now_reports_the_revision_from_which_it_is_complete(world: World, prefix: bytes) -> None:
    """It equals the revision of the read before it, so there is no gap. That saves a read."""
    before = await _do(world.api, Put(prefix + b"before"))
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    assert await watch.created() == before
    after = await _do(world.other, Put(prefix + b"after"))
    assert _seen(await watch.events(1)) == [("put", prefix + b"after", after)]


async def test_events_have_the_new_state_of_the_key(world: World, prefix: bytes) -> None:
    """A leader uses them to check that its key is still its own. A DELETE event has the key and the revision only."""
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    await watch.created()
    first = await _do(world.other, Put(prefix + b"k", b"1"))
    second = await _do(world.other, Put(prefix + b"k", b"2"))
    third = await _do(world.other, DeleteRange(prefix + b"k"))
    assert await watch.events(3) == [
        WatchEvent("put", KeyValue(prefix + b"k", b"1", first, first, 1, 0)),
        WatchEvent("put", KeyValue(prefix + b"k", b"2", first, second, 2, 0)),
        WatchEvent("delete", KeyValue(prefix + b"k", mod_revision=third)),
    ]


async def test_a_watch_on_one_key_delivers_that_key_only(world: World, prefix: bytes) -> None:
    """A waiting candidate is woken by its predecessor and by no other candidate."""
    one = Recorder(world.api, prefix + b"k")
    all_ = Recorder(world.api, prefix, prefix_end(prefix))
    await one.created()
    await all_.created()
    await _do(world.other, Put(prefix + b"k1"))
    await _do(world.other, Put(prefix + b"j"))
    last = await _do(world.other, Put(prefix + b"k"))
    await all_.events(3)
    assert _seen(await one.events(1)) == [("put", prefix + b"k", last)]


async def test_a_watch_on_a_prefix_ends_where_the_prefix_ends(world: World, prefix: bytes) -> None:
    """The election `a` must not receive events of the election `ab`."""
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    await watch.created()
    await _do(world.other, Put(prefix[:-1]))
    await _do(world.other, Put(prefix_end(prefix)))
    await _do(world.other, Put(prefix[:-1] + b"b/k"))
    last = await _do(world.other, Put(prefix))
    assert _seen(await watch.events(1)) == [("put", prefix, last)]


async def test_a_revision_is_delivered_whole(world: World, prefix: bytes) -> None:
    """Otherwise a candidate would decide on half of a revision."""
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    await watch.created()
    revision = await _do(world.other, *(Put(prefix + str(number).encode()) for number in range(100)))
    await watch.events(100)
    (batch,) = watch.batches()
    assert {event.kv.mod_revision for event in batch} == {revision}


async def test_many_changes_are_delivered_in_order(world: World, prefix: bytes) -> None:
    """None is missing, and none is delivered twice."""
    watch = Recorder(world.api, prefix, prefix_end(prefix))
    await watch.created()
    revisions = [await _do(world.other, Put(prefix + b"k", str(number).encode())) for number in range(50)]
    assert [event.kv.mod_revision for event in await watch.events(50)] == revisions


async def test_a_watch_from_the_past_delivers_past_events_first(world: World, prefix: bytes) -> None:
    """A broken stream is resumed like this. It is created at a revision just before its first event."""
    revisions = [await _do(world.other, Put(prefix + b"k", str(number).encode())) for number in range(5)]
    watch = Recorder(world.api, prefix + b"k", start_revision=revisions[1])
    assert await watch.created() == revisions[1] - 1
    await watch.events(4)
    revisions.append(await _do(world.other, DeleteRange(prefix + b"k")))
    assert [event.kv.mod_revision for event in await watch.events(5)] == revisions[1:]


async def test_a_watch_from_the_future_is_silent_until_then(world: World, prefix: bytes) -> None:
    """So after a restore a resumed watch delivers nothing: only reads can detect it."""
    now = await _do(world.other, Put(prefix + b"k"))
    watch = Recorder(world.api, prefix + b"k", start_revision=now + 3)
    assert await watch.created() == now + 2
    for _ in range(4):
        await _do(world.other, Put(prefix + b"k"))
    assert _seen(await watch.events(2)) == [("put", prefix + b"k", now + 3), ("put", prefix + b"k", now + 4)]


async def test_a_watch_from_before_a_compaction_is_cancelled(world: World, prefix: bytes) -> None:
    """The cancellation has the compacted revision, and no message follows. The other watches of the stream stay."""
    first = await _do(world.other, Put(prefix + b"k"))
    await _do(world.other, Put(prefix + b"k"))
    last = await _do(world.other, Put(prefix + b"k"))
    beside = Recorder(world.api, prefix + b"k")
    await beside.created()
    world.compact(last)
    watch = Recorder(world.api, prefix + b"k", start_revision=first)
    canceled = await watch.canceled()
    assert canceled.compact_revision == last
    assert all(isinstance(message, WatchCreated) for message in watch.messages[:-1])
    await _do(world.other, Put(prefix + b"k"))
    await beside.events(1)
    assert watch.messages[-1] is canceled


async def test_a_watch_from_the_compacted_revision_itself_is_created(world: World, prefix: bytes) -> None:
    """Compaction keeps it. A revision right behind ours is no reason to read again."""
    await _do(world.other, Put(prefix + b"k", b"1"))
    last = await _do(world.other, Put(prefix + b"k", b"2"))
    world.compact(last)
    watch = Recorder(world.api, prefix + b"k", start_revision=last)
    assert _seen(await watch.events(1)) == [("put", prefix + b"k", last)]


async def test_a_closed_watch_is_silent(world: World, prefix: bytes) -> None:
    """It ends at once, and the other watches do not."""
    closed = Recorder(world.api, prefix + b"k")
    beside = Recorder(world.api, prefix + b"k")
    await closed.created()
    await beside.created()
    closed.handle.close()
    closed.handle.close()
    await _do(world.other, Put(prefix + b"k"))
    await beside.events(1)
    assert [type(message) for message in closed.messages] == [WatchCreated]


async def test_a_watch_may_be_closed_before_it_is_created(world: World, prefix: bytes) -> None:
    """A candidate that is cancelled at that moment does this."""
    closed = Recorder(world.api, prefix + b"k")
    closed.handle.close()
    beside = Recorder(world.api, prefix + b"k")
    await beside.created()
    await _do(world.other, Put(prefix + b"k"))
    await beside.events(1)
    assert closed.messages == []


async def test_a_sink_is_never_called_from_inside_watch(world: World, prefix: bytes) -> None:
    """The caller has not stored the handle yet."""
    watch = Recorder(world.api, prefix)
    assert watch.messages == []
    await watch.created()


async def test_a_closed_connection_ends_its_watches_silently(world: World, prefix: bytes) -> None:
    """No receiver is left."""
    watch = Recorder(world.api, prefix + b"k")
    beside = Recorder(world.other, prefix + b"k")
    await watch.created()
    await beside.created()
    await world.api.aclose()
    await _do(world.other, Put(prefix + b"k"))
    await beside.events(1)
    assert not any(isinstance(message, WatchEvents) for message in watch.messages)
