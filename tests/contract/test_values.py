"""The Txn that puts a new value on a key and keeps its lease: on the fake and on the real etcd alike."""

from __future__ import annotations

import secrets

import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import (
    Compare,
    EtcdApi,
    KeyValue,
    LeaseNotFoundError,
    Put,
    Range,
    RangeResult,
    TxnResult,
    WatchEvent,
)
from tests.contract.leased import grant, join, read
from tests.contract.watching import TIMEOUT, Recorder
from tests.contract.world import World

pytestmark = pytest.mark.anyio


async def _update(api: EtcdApi, kv: KeyValue, value: bytes) -> TxnResult:
    """Put the value on the key's lease, if the key is unchanged. Otherwise read it."""
    compare = [
        Compare(kv.key, "create", kv.create_revision),
        Compare(kv.key, "mod", kv.mod_revision),
        Compare(kv.key, "lease", kv.lease),
    ]
    return await api.txn(compare, [Put(kv.key, value, kv.lease)], [Range(kv.key)], timeout=TIMEOUT)


async def test_an_update_changes_the_value_and_keeps_the_create_revision_and_the_lease(
    api: EtcdApi, prefix: bytes
) -> None:
    kv = await join(api, prefix + b"k", await grant(api))
    updated = await _update(api, kv, b"new")
    assert updated.succeeded
    assert await read(api, kv.key) == KeyValue(kv.key, b"new", kv.create_revision, updated.header.revision, 2, kv.lease)
    assert (await api.lease_time_to_live(kv.lease, keys=True, timeout=TIMEOUT)).keys == (kv.key,)
    await api.lease_revoke(kv.lease, timeout=TIMEOUT)
    assert (await api.range(Range(kv.key), timeout=TIMEOUT)).kvs == ()


async def test_an_update_is_one_event_that_is_a_put(world: World, prefix: bytes) -> None:
    kv = await join(world.api, prefix + b"k", await grant(world.api))
    watch = Recorder(world.other, prefix, prefix_end(prefix))
    await watch.created()
    revision = (await _update(world.api, kv, b"new")).header.revision
    deleted = await world.api.lease_revoke(kv.lease, timeout=TIMEOUT)
    assert list(await watch.events(2)) == [
        WatchEvent("put", kv._replace(value=b"new", mod_revision=revision, version=2)),
        WatchEvent("delete", KeyValue(kv.key, mod_revision=deleted.revision)),
    ]


async def test_an_update_that_is_repeated_finds_its_own_value_and_puts_nothing(api: EtcdApi, prefix: bytes) -> None:
    """Two PUTs would look like a step-down request, because the second one changes nothing."""
    kv = await join(api, prefix + b"k", await grant(api))
    first = await _update(api, kv, b"new")
    second = await _update(api, kv, b"new")
    assert not second.succeeded
    assert second.header.revision == first.header.revision
    assert [one.kvs for one in second.results if isinstance(one, RangeResult)] == [(await read(api, kv.key),)]


async def test_an_update_on_a_lease_that_is_gone_puts_nothing(api: EtcdApi, prefix: bytes) -> None:
    kv = await join(api, prefix + b"k", await grant(api))
    gone = secrets.randbelow(2**62) + 1
    with pytest.raises(LeaseNotFoundError):
        await api.txn([], [Put(kv.key, b"new", gone)], timeout=TIMEOUT)
    assert await read(api, kv.key) == kv
