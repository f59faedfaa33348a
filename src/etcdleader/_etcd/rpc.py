"""etcd3's message classes and stubs, importable under whatever protobuf there is."""

from __future__ import annotations

from . import stubs

stubs.install()

from etcd3 import etcdrpc  # noqa: E402 - only now can it be imported

__all__ = ("etcdrpc",)
