"""A message that would take much more memory than its bytes is refused before it is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from etcdleader._etcd.etcd3_messages import etcdrpc
from etcdleader._etcd.field_limit import FIELDS, FLAT, TXN, check_field_count
from etcdleader._etcd.rpcs import LEASE_TIME_TO_LIVE, RANGE, WATCH
from etcdleader._etcd.rpcs import TXN as TXN_RPC


def field(tag: int, payload: bytes = b"") -> bytes:
    size, number = b"", len(payload)
    while number > 0x7F:
        size, number = size + bytes((number & 0x7F | 0x80,)), number >> 7
    return bytes((tag,)) + size + bytes((number,)) + payload


BOMBS: dict[str, tuple[Any, bytes]] = {
    "events": (WATCH, field(0x5A) * 2**20),
    "keys": (RANGE, field(0x12) * 2**20),
    "keys of a lease": (LEASE_TIME_TO_LIVE, field(0x2A) * 2**20),
    "results": (TXN_RPC, field(0x1A) * 2**20),
    "keys of a result": (TXN_RPC, field(0x1A, field(0x0A, field(0x12) * 2**20))),
    "keys that were deleted": (TXN_RPC, field(0x1A, field(0x1A, field(0x1A) * 2**20))),
    "keys of a transaction in one": (TXN_RPC, field(0x1A, field(0x22, field(0x1A, field(0x0A, field(0x12) * 2**20))))),
    "tags in several bytes": (WATCH, b"\xda\x00\x00" * 2**20),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_message_with_millions_of_fields_is_not_parsed(bomb: str) -> None:
    rpc, data = BOMBS[bomb]
    with pytest.raises(ValueError, match=f"more than {FIELDS} fields"):
        rpc.decode(data)


@pytest.mark.parametrize("data", [b"\x5b" * 2**17, b"\x08" + b"\xff" * 2**17, b"\0" * (2**17 - 1) + b"\x08"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    for lists in (FLAT, TXN):
        with pytest.raises(ValueError):
            check_field_count(data, lists)


def test_transactions_that_are_nested_too_deeply_are_refused() -> None:
    data = bytes(2**17)
    for _ in range(2_000):
        data = field(0x1A, field(0x22, data))
    with pytest.raises(ValueError, match="nested too deeply"):
        check_field_count(data, TXN)


def test_long_answers_of_etcd_are_parsed() -> None:
    def result(count: int, size: int) -> Any:
        response = etcdrpc.RangeResponse(count=count)
        for _ in range(count):
            response.kvs.add(key=b"k", value=bytes(size), version=1)
        return response

    queue = result(10_000, 100).SerializeToString()
    assert len(RANGE.decode(queue).kvs) == 10_000
    batch = etcdrpc.TxnResponse(succeeded=True)
    for _ in range(128):
        batch.responses.add(response_range=result(1, 2**15))
    assert len(TXN_RPC.decode(batch.SerializeToString()).results) == 128
    watched = etcdrpc.WatchResponse()
    for revision in range(10_000):
        watched.events.add().kv.mod_revision = revision
        watched.events[-1].kv.value = bytes(100)
    assert len(WATCH.decode(watched.SerializeToString()).events) == 10_000


def test_a_short_message_is_not_scanned() -> None:
    """It cannot have too many fields."""
    check_field_count(b"\x5b" * 2 * FIELDS, FLAT)
