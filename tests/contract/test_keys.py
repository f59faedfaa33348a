"""Transactions and reads as the election requires them of etcd, on the fake and on the real etcd alike."""

from __future__ import annotations

import secrets
from typing import Literal

import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import (
    Compare,
    DeleteRange,
    DeleteRangeResult,
    EtcdApi,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    PutResult,
    Range,
    RangeResult,
    TxnResult,
)
from etcdleader.errors import EtcdLeaderError, EtcdRefusedError
from tests.contract.leased import read
from tests.contract.watching import TIMEOUT

pytestmark = pytest.mark.anyio


async def _do(api: EtcdApi, *operations: Operation) -> TxnResult:
    return await api.txn([], operations, timeout=TIMEOUT)


def _range(result: object) -> RangeResult:
    assert isinstance(result, RangeResult)
    return result


async def test_a_range_sees_the_put_before_it_in_its_transaction(api: EtcdApi, prefix: bytes) -> None:
    """So one request joins the queue and returns the position in it."""
    own = prefix + b"own"
    first = await _do(api, Put(prefix + b"first", b"1"))
    result = await api.txn(
        [Compare(own, "create", 0)],
        [Put(own, b"2"), Range(prefix, prefix_end(prefix), limit=2, order="create-descending")],
        timeout=TIMEOUT,
    )
    revision = result.header.revision
    assert result.succeeded
    assert revision > first.header.revision
    assert result.results[0] == PutResult()
    queue = _range(result.results[1])
    assert [kv.key for kv in queue.kvs] == [own, prefix + b"first"]
    assert queue.kvs[0] == KeyValue(own, b"2", revision, revision, 1, 0)
    assert queue.count == 2
    assert queue.header == result.header


async def test_the_other_branch_runs_when_a_condition_fails(api: EtcdApi, prefix: bytes) -> None:
    """A repeated join finds the key of the first."""
    key = prefix + b"k"
    put = await _do(api, Put(key, b"before"))
    result = await api.txn([Compare(key, "create", 0)], [Put(key, b"after")], [Range(key)], timeout=TIMEOUT)
    assert not result.succeeded
    found = _range(result.results[0])
    assert [kv.value for kv in found.kvs] == [b"before"]
    assert found.header.revision == result.header.revision >= put.header.revision


_Target = Literal["create", "mod", "version", "lease", "value"]
_Sign = Literal["=", "!=", "<", ">"]


@pytest.mark.parametrize("target", ["create", "mod", "version", "lease", "value"])
async def test_conditions_compare_what_is_stored(api: EtcdApi, prefix: bytes, target: _Target) -> None:
    """A term's guard compares two of these, and users may add the others."""
    key, lease_id = prefix + b"k", secrets.randbits(62) + 1
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    await _do(api, Put(key, b"m", lease=lease_id))
    await _do(api, Put(key, b"m", lease=lease_id))
    kv = await read(api, key)
    assert kv is not None
    assert kv.version == 2
    stored: dict[_Target, int | bytes] = {
        "create": kv.create_revision,
        "mod": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
        "value": kv.value,
    }
    own = stored[target]
    below, above = (b"l", b"n") if isinstance(own, bytes) else (own - 1, own + 1)
    expected: dict[tuple[_Sign, int | bytes], bool] = {
        ("=", own): True,
        ("=", above): False,
        ("!=", own): False,
        ("!=", above): True,
        ("<", above): True,
        ("<", own): False,
        (">", below): True,
        (">", own): False,
    }
    for (sign, value), holds in expected.items():
        result = await api.txn([Compare(key, target, value, sign)], [], timeout=TIMEOUT)
        assert result.succeeded == holds, (sign, value)
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


@pytest.mark.parametrize("target", ["create", "mod", "version", "lease"])
async def test_a_missing_key_compares_as_zero(api: EtcdApi, prefix: bytes, target: _Target) -> None:
    """A candidate puts its key only once, by `create_revision == 0`."""
    for sign, value, holds in (("=", 0, True), ("!=", 0, False), ("<", 1, True), (">", 0, False)):
        result = await api.txn([Compare(prefix + b"none", target, value, sign)], [], timeout=TIMEOUT)  # type: ignore[arg-type]  # they are in a loop
        assert result.succeeded == holds, (sign, value)


@pytest.mark.parametrize("sign", ["=", "!=", "<", ">"])
async def test_a_missing_value_fails_each_comparison(api: EtcdApi, prefix: bytes, sign: _Sign) -> None:
    """etcd cannot distinguish a missing value from an empty one, and refuses."""
    result = await api.txn([Compare(prefix + b"none", "value", b"", sign)], [], timeout=TIMEOUT)
    assert not result.succeeded


async def test_all_conditions_must_hold(api: EtcdApi, prefix: bytes) -> None:
    """The guard has two."""
    put = await _do(api, Put(prefix + b"k"))
    created = Compare(prefix + b"k", "create", put.header.revision)
    assert (await api.txn([created, Compare(prefix + b"k", "lease", 0)], [], timeout=TIMEOUT)).succeeded
    assert not (await api.txn([created, Compare(prefix + b"k", "lease", 1)], [], timeout=TIMEOUT)).succeeded


async def test_ranges_are_ordered_limited_and_counted(api: EtcdApi, prefix: bytes) -> None:
    """The queue is read by create_revision. `count` includes all keys, even if limit and filter exclude some."""
    end = prefix_end(prefix)
    revisions = [(await _do(api, Put(prefix + name, b"v"))).header.revision for name in (b"c", b"a", b"d", b"b")]
    await _do(api, Put(prefix + b"c", b"again"))  # changes neither its create_revision nor its position

    async def names(request: Range) -> tuple[bytes, int]:
        result = await api.range(request, timeout=TIMEOUT)
        return b"".join(kv.key.removeprefix(prefix) for kv in result.kvs), result.count

    assert await names(Range(prefix, end)) == (b"abcd", 4)
    assert await names(Range(prefix, end, order="create-ascending")) == (b"cadb", 4)
    assert await names(Range(prefix, end, order="create-descending")) == (b"bdac", 4)
    assert await names(Range(prefix, end, limit=1, order="create-ascending")) == (b"c", 4)
    assert await names(Range(prefix, end, limit=2, order="create-descending")) == (b"bd", 4)
    assert await names(Range(prefix, end, limit=2)) == (b"ab", 4)
    before_d = Range(prefix, end, limit=1, order="create-descending", max_create_revision=revisions[2] - 1)
    assert await names(before_d) == (b"a", 4)
    up_to_d = Range(prefix, end, order="create-descending", max_create_revision=revisions[2])
    assert await names(up_to_d) == (b"dac", 4)
    assert await names(Range(prefix + b"c")) == (b"c", 1)
    assert await names(Range(prefix + b"b", prefix + b"d")) == (b"bc", 2)
    assert await names(Range(prefix + b"none")) == (b"", 0)


async def test_a_range_may_leave_the_values_out(api: EtcdApi, prefix: bytes) -> None:
    """The queue can be counted without reading it."""
    put = await _do(api, Put(prefix + b"k", b"v"))
    result = await api.range(Range(prefix + b"k", keys_only=True), timeout=TIMEOUT)
    assert result.kvs == (KeyValue(prefix + b"k", b"", put.header.revision, put.header.revision, 1, 0),)


async def test_a_range_with_keys_only_guarantees_neither_value_nor_lease(api: EtcdApi, prefix: bytes) -> None:
    """etcd 3.7 leaves the lease out. All other fields are there in every version."""
    lease_id = secrets.randbelow(2**62) + 1
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    put = await _do(api, Put(prefix + b"k", b"v", lease=lease_id))
    (found,) = (await api.range(Range(prefix + b"k", keys_only=True), timeout=TIMEOUT)).kvs
    revision = put.header.revision
    assert found._replace(lease=0) == KeyValue(prefix + b"k", b"", revision, revision, 1, 0)
    assert found.lease in (0, lease_id)
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_range_inside_a_transaction_returns_the_same_as_outside(api: EtcdApi, prefix: bytes) -> None:
    """Order, limit and filter are in another message there."""
    end = prefix_end(prefix)
    for name in (b"b", b"c"):
        await _do(api, Put(prefix + name))
    last = await _do(api, Put(prefix + b"a"))
    requests = [
        Range(prefix, end, limit=2, order="create-descending", max_create_revision=last.header.revision - 1),
        Range(prefix, end, limit=1, order="create-ascending", keys_only=True),
        Range(prefix + b"none"),
    ]
    inside = (await _do(api, *requests)).results
    outside = [await api.range(request, timeout=TIMEOUT) for request in requests]
    assert [(_range(one).kvs, _range(one).count) for one in inside] == [(one.kvs, one.count) for one in outside]
    assert [kv.key for kv in outside[0].kvs] == [prefix + b"c", prefix + b"b"]


@pytest.mark.parametrize("holds", [True, False])
async def test_a_transaction_that_only_reads_has_one_result_for_each_read_and_counts_no_revision(
    api: EtcdApi, prefix: bytes, holds: bool
) -> None:
    key, other = prefix + b"k", prefix + b"other"
    put = await _do(api, Put(key, b"1"))
    condition = [Compare(key, "create", put.header.revision if holds else 0)]
    for success, failure in (([Range(key)], []), ([Range(key), Range(other)], [Range(other)]), ([], [Range(key)] * 3)):
        result = await api.txn(condition, success, failure, timeout=TIMEOUT)
        wanted = success if holds else failure
        assert result.succeeded is holds
        assert [len(_range(one).kvs) for one in result.results] == [int(read.key == key) for read in wanted]
        assert result.header.revision == put.header.revision


async def test_only_a_request_that_changes_a_key_adds_a_revision(api: EtcdApi, prefix: bytes) -> None:
    """Reads and empty deletes must not look like progress, and several changes at once are one revision."""
    before = (await _do(api, Range(prefix))).header.revision
    nothing = await _do(api, DeleteRange(prefix, prefix_end(prefix)))
    assert nothing.results == (DeleteRangeResult(0),)
    assert nothing.header.revision == before
    both = await _do(api, Put(prefix + b"a"), Put(prefix + b"b"))
    assert both.header.revision == before + 1
    gone = await _do(api, DeleteRange(prefix, prefix_end(prefix)))
    assert gone.results == (DeleteRangeResult(2),)
    assert gone.header.revision == before + 2


async def test_headers_agree(api: EtcdApi, prefix: bytes) -> None:
    """A renewal is confirmed by the raft terms of two different calls."""
    put = (await _do(api, Put(prefix + b"k"))).header
    read = (await api.range(Range(prefix), timeout=TIMEOUT)).header
    lease_id = secrets.randbits(62) + 1
    granted = (await api.lease_grant(60, lease_id, timeout=TIMEOUT)).header
    kept = (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].header
    left = (await api.lease_time_to_live(lease_id, timeout=TIMEOUT)).header
    revoked = await api.lease_revoke(lease_id, timeout=TIMEOUT)
    assert put == read == granted == kept == left == revoked
    assert put.raft_term >= 1
    assert put.cluster_id
    assert put.member_id


async def test_a_put_on_a_missing_lease_fails_without_effect(api: EtcdApi, prefix: bytes) -> None:
    """A late join, after its lease was revoked, must leave no key, and nothing else of the transaction."""
    with pytest.raises(LeaseNotFoundError):
        await _do(api, Put(prefix + b"a"), Put(prefix + b"b", lease=secrets.randbits(62) + 1))
    assert (await api.range(Range(prefix, prefix_end(prefix)), timeout=TIMEOUT)).count == 0


async def test_a_put_that_ignores_all_changes_nothing_but_the_version(api: EtcdApi, prefix: bytes) -> None:
    """This is an operator's request to step down."""
    key, lease_id = prefix + b"k", secrets.randbits(62) + 1
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    created = (await _do(api, Put(key, b"v", lease=lease_id))).header.revision
    asked = (await _do(api, Put(key, ignore_value=True, ignore_lease=True))).header.revision
    assert await read(api, key) == KeyValue(key, b"v", created, asked, 2, lease_id)
    await api.lease_revoke(lease_id, timeout=TIMEOUT)
    assert await read(api, key) is None


async def test_a_put_that_keeps_the_value_of_a_missing_key_fails(api: EtcdApi, prefix: bytes) -> None:
    """A request to step down must not create a key."""
    with pytest.raises(EtcdLeaderError):
        await _do(api, Put(prefix + b"k", ignore_value=True, ignore_lease=True))
    assert await read(api, prefix + b"k") is None


async def test_a_put_without_a_lease_takes_the_key_off_its_lease(api: EtcdApi, prefix: bytes) -> None:
    """A revocation then spares the key. A leader whose key lost its lease has lost."""
    key, lease_id = prefix + b"k", secrets.randbits(62) + 1
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    await _do(api, Put(key, b"v", lease=lease_id))
    await _do(api, Put(key, b"v"))
    await api.lease_revoke(lease_id, timeout=TIMEOUT)
    kv = await read(api, key)
    assert kv is not None
    assert (kv.lease, kv.version) == (0, 2)


async def test_a_key_that_is_created_again_has_a_new_create_revision(api: EtcdApi, prefix: bytes) -> None:
    """Its create_revision is unique, which is why it is the token."""
    key = prefix + b"k"
    first = (await _do(api, Put(key))).header.revision
    await _do(api, DeleteRange(key))
    second = (await _do(api, Put(key))).header.revision
    kv = await read(api, key)
    assert kv == KeyValue(key, b"", second, second, 1, 0)
    assert second == first + 2


async def test_128_reads_fit_into_one_transaction_and_no_more(api: EtcdApi, prefix: bytes) -> None:
    """Renewals read that many keys at once."""
    await _do(api, Put(prefix + b"7"))
    reads = [Range(prefix + str(number).encode()) for number in range(129)]
    result = await _do(api, *reads[:128])
    assert [number for number, one in enumerate(result.results) if _range(one).kvs] == [7]
    with pytest.raises(EtcdLeaderError):
        await _do(api, *reads)


@pytest.mark.parametrize("size", [1_600_000, 2_100_000, 3_000_000])
async def test_a_request_that_is_too_large_is_refused_for_good(api: EtcdApi, prefix: bytes, size: int) -> None:
    """A request above 1.5 MiB is refused by etcd, and one above 2 MiB by its gRPC library, with another status."""
    key = prefix + b"k"
    await _do(api, Put(key, b"v"))
    with pytest.raises(EtcdRefusedError, match=r"too large|larger than max"):
        await _do(api, Put(key, bytes(size)))
    kv = await read(api, key)
    assert kv is not None
    assert kv.value == b"v"


async def test_bytes_are_kept_as_they_are(api: EtcdApi, prefix: bytes) -> None:
    """Candidates of other programs may put any value."""
    value = bytes(range(256))
    await _do(api, Put(prefix + b"\xff\x00", value))
    kv = await read(api, prefix + b"\xff\x00")
    assert kv is not None
    assert kv.value == value
