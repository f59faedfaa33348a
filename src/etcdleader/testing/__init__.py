"""Helpers for tests against etcdleader: a real etcd that starts quickly, and a fake one in memory.

Each name is imported at its first use. A test suite that uses only the fake needs no etcd, and the reverse.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .etcd_server import EtcdServer, EtcdServerError
    from .fake_etcd import FakeEtcd

__all__ = ("EtcdServer", "EtcdServerError", "FakeEtcd")

_HOMES = {"EtcdServer": "etcd_server", "EtcdServerError": "etcd_server", "FakeEtcd": "fake_etcd"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
