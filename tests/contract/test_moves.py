"""A key that moves to another lease, and a proposal that changes nothing: on the fake and on the real etcd alike."""

from __future__ import annotations

import anyio
import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import (
    Compare,
    DeleteRange,
    EtcdApi,
    KeyValue,
    LeaseNotFoundError,
    Put,
    Range,
    TxnResult,
    WatchEvent,
)
from tests.contract.leased import grant, join, read
from tests.contract.watching import TIMEOUT, Recorder
from tests.contract.world import World

pytestmark = pytest.mark.anyio


async def _move(api: EtcdApi, kv: KeyValue, lease: int) -> TxnResult:
    """Put the key as it was read on another lease, if it is unchanged. Otherwise read it."""
    return await api.txn(
        [
            Compare(kv.key, "create", kv.create_revision),
            Compare(kv.key, "mod", kv.mod_revision),
            Compare(kv.key, "lease", kv.lease),
        ],
        [Put(kv.key, kv.value, lease=lease)],
        [Range(kv.key)],
        timeout=TIMEOUT,
    )


async def _propose(api: EtcdApi, key: bytes) -> TxnResult:
    return await api.txn([Compare(key, "version", 0, "<")], [DeleteRange(key)], timeout=TIMEOUT)


async def test_a_key_moves_to_another_lease_and_stays_the_same_key(api: EtcdApi, prefix: bytes) -> None:
    old, new, key = await grant(api), await grant(api), prefix + b"k"
    kv = await join(api, key, old)
    moved = await _move(api, kv, new)
    assert moved.succeeded
    revision = moved.header.revision
    assert await read(api, key) == KeyValue(key, b"v", kv.create_revision, revision, 2, new)
    assert (await api.lease_time_to_live(old, keys=True, timeout=TIMEOUT)).keys == ()
    assert (await api.lease_time_to_live(new, keys=True, timeout=TIMEOUT)).keys == (key,)
    revoked = await api.lease_revoke(old, timeout=TIMEOUT)
    assert revoked.revision == revision, "no key was left on it"
    assert await read(api, key) is not None
    await api.lease_revoke(new, timeout=TIMEOUT)
    assert await read(api, key) is None


async def test_the_old_lease_expires_without_the_key_that_has_moved(api: EtcdApi, prefix: bytes) -> None:
    """It is then deleted with the new lease."""
    new = await grant(api)
    old, key = await grant(api, 3), prefix + b"k"
    kv = await join(api, key, old)
    assert (await _move(api, kv, new)).succeeded
    watch = Recorder(api, key)
    await watch.created()
    while (await api.lease_time_to_live(old, timeout=TIMEOUT)).ttl != -1:
        await anyio.sleep(0.1)
    assert await read(api, key) is not None
    await api.lease_revoke(new, timeout=TIMEOUT)
    (event,) = await watch.events(1)
    assert event.type == "delete"


async def test_a_move_is_one_event_that_is_a_put(world: World, prefix: bytes) -> None:
    """A candidate that waits for the key's deletion is not woken."""
    old, new, key = await grant(world.api), await grant(world.api), prefix + b"k"
    kv = await join(world.api, key, old)
    watch = Recorder(world.other, prefix, prefix_end(prefix))
    await watch.created()
    revision = (await _move(world.api, kv, new)).header.revision
    await world.api.lease_revoke(old, timeout=TIMEOUT)
    deleted = await world.api.lease_revoke(new, timeout=TIMEOUT)
    assert list(await watch.events(2)) == [
        WatchEvent("put", KeyValue(key, b"v", kv.create_revision, revision, 2, new)),
        WatchEvent("delete", KeyValue(key, mod_revision=deleted.revision)),
    ]


async def test_a_move_that_is_repeated_finds_the_key_moved(api: EtcdApi, prefix: bytes) -> None:
    """Its first response may have been lost."""
    old, new, key = await grant(api), await grant(api), prefix + b"k"
    kv = await join(api, key, old)
    first = await _move(api, kv, new)
    again = await _move(api, kv, new)
    assert not again.succeeded
    assert again.header.revision == first.header.revision
    (found,) = (await api.range(Range(key), timeout=TIMEOUT)).kvs
    assert (found.lease, found.mod_revision) == (new, first.header.revision)
    await api.lease_revoke(old, timeout=TIMEOUT)
    await api.lease_revoke(new, timeout=TIMEOUT)


@pytest.mark.parametrize("change", ["value", "lease", "create_revision"])
async def test_a_key_that_was_changed_meanwhile_is_not_moved(world: World, prefix: bytes, change: str) -> None:
    old, new, key = await grant(world.api), await grant(world.api), prefix + b"k"
    kv = await join(world.api, key, old)
    if change == "create_revision":
        await world.other.txn([], [DeleteRange(key)], timeout=TIMEOUT)
    put = Put(key, b"theirs", lease=0 if change == "lease" else old)
    await world.other.txn([], [put], timeout=TIMEOUT)
    before = await read(world.api, key)
    assert not (await _move(world.api, kv, new)).succeeded
    assert await read(world.api, key) == before
    for lease_id in (old, new):
        await world.api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_key_is_not_moved_to_a_lease_that_is_gone(api: EtcdApi, prefix: bytes) -> None:
    """It stays on the old one."""
    old, new, key = await grant(api), await grant(api), prefix + b"k"
    kv = await join(api, key, old)
    await api.lease_revoke(new, timeout=TIMEOUT)
    with pytest.raises(LeaseNotFoundError):
        await _move(api, kv, new)
    assert await read(api, key) == kv
    await api.lease_revoke(old, timeout=TIMEOUT)


@pytest.mark.parametrize("there", [True, False])
async def test_a_proposal_that_changes_nothing_leaves_no_revision_and_no_event(
    world: World, prefix: bytes, there: bool
) -> None:
    """No key has a version below 0, whether it exists or not."""
    lease_id, key = await grant(world.api), prefix + b"k"
    kv = await join(world.api, key, lease_id) if there else None
    watch = Recorder(world.other, prefix, prefix_end(prefix))
    before = await watch.created()
    for _ in range(3):
        result = await _propose(world.api, key)
        assert (result.succeeded, result.results, result.header.revision) == (False, (), before)
    assert await read(world.api, key) == kv
    last = (await world.api.txn([], [Put(prefix + b"last")], timeout=TIMEOUT)).header.revision
    assert last == before + 1
    assert [event.kv.key for event in await watch.events(1)] == [prefix + b"last"]
    await world.api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_read_after_a_proposal_that_changes_nothing_reports_a_raft_term(api: EtcdApi, prefix: bytes) -> None:
    """The member has applied an entry of the term in force by then."""
    proposed = (await _propose(api, prefix + b"k")).header
    read = (await api.range(Range(prefix + b"k"), timeout=TIMEOUT)).header
    assert read.raft_term >= proposed.raft_term
    assert read.raft_term > 0
    assert read.revision == proposed.revision
