"""Leases, and keys on them."""

from __future__ import annotations

import secrets

from etcdleader._etcd.api import EtcdApi, KeyValue, Put, Range
from tests.contract.watching import TIMEOUT

__all__ = ("grant", "join", "read")


async def grant(api: EtcdApi, ttl: int = 60) -> int:
    lease_id = secrets.randbelow(2**62) + 1
    await api.lease_grant(ttl, lease_id, timeout=TIMEOUT)
    return lease_id


async def join(api: EtcdApi, key: bytes, lease: int) -> KeyValue:
    """Put a key with the value ``v`` on a lease."""
    await api.txn([], [Put(key, b"v", lease=lease)], timeout=TIMEOUT)
    kv = await read(api, key)
    assert kv is not None
    return kv


async def read(api: EtcdApi, key: bytes) -> KeyValue | None:
    result = await api.range(Range(key), timeout=TIMEOUT)
    return result.kvs[0] if result.kvs else None
