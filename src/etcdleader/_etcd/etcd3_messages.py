"""etcd3's message classes, under whatever protobuf there is, and without its client."""

from __future__ import annotations

from . import etcd3_finder

etcd3_finder.install()

etcdrpc = etcd3_finder.messages()
