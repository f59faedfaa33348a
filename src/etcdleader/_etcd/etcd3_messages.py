"""etcd3's message classes, under whatever protobuf there is, and without its client."""

from __future__ import annotations

from . import etcd3_finder as stubs

stubs.install()

etcdrpc = stubs.messages()

__all__ = ("etcdrpc",)
