"""Helpers for the tests of registrations."""

from __future__ import annotations

from collections.abc import Callable

from etcdleader.registration import registered
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient

__all__ = ("KEY", "MARGIN", "RENEW", "RETRY", "TTL", "enter", "lease_of", "value_of")

KEY = "workers/10.0.0.1:8000"
TTL = 12
MARGIN = 1.0
RETRY = 2.0
RENEW = 3.0


def enter(etcd: FakeEtcd | FakeClient, clock: Callable[[], float], value: str = "idle", key: str = KEY) -> registered:
    return registered(etcd, key, value, ttl=TTL, clock=clock)


def value_of(etcd: FakeEtcd, key: str = KEY) -> str | None:
    kv = etcd.keys().get(key.encode())
    return None if kv is None else kv.value.decode()


def lease_of(etcd: FakeEtcd, key: str = KEY) -> int | None:
    kv = etcd.keys().get(key.encode())
    return None if kv is None else kv.lease
