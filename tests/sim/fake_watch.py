"""Watch the fake, for the fake's own tests."""

from __future__ import annotations

from collections.abc import Sequence

from etcdleader._etcd.api import (
    WatchEvents,
    WatchMessage,
)
from etcdleader.testing.fake_etcd import FakeClient


def watch_k(client: FakeClient, timeout: float = 5.0) -> list[WatchMessage]:
    """Watch everything under `k` from now on. Return the list to which messages are appended as they arrive."""
    got: list[WatchMessage] = []
    client.watch(b"k", b"l", sink=got.append, timeout=timeout)
    return got


def revisions(messages: Sequence[WatchMessage]) -> list[int]:
    """Return the revisions of the events."""
    return [
        event.kv.mod_revision for message in messages if isinstance(message, WatchEvents) for event in message.events
    ]
