"""etcd3's message classes, under any protobuf version, and without etcd3's client."""

from __future__ import annotations

from . import etcd3_finder

etcd3_finder.install()

etcdrpc = etcd3_finder.messages()
