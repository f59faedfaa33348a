"""The watches of a connection on scripted streams."""

from __future__ import annotations

from typing import Any

import anyio

from etcdleader._etcd.api import Header, KeyValue, WatchEvent, WatchEvents, WatchMessage
from etcdleader._etcd.messages import (
    ALL_WATCHES,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchResponse,
)
from etcdleader._etcd.watch_stream import WatchStream
from etcdleader.errors import EtcdUnavailableError
from tests.helpers.scripted_stream import Opener, ScriptedStream

RESET = EtcdUnavailableError("UNAVAILABLE: the connection was reset")


def header(revision: int) -> Header:
    return Header(cluster_id=1, member_id=2, revision=revision, raft_term=2)


class World:
    """A connection's watches, and the streams that they have opened."""

    def __init__(self) -> None:
        self.opener = Opener()
        self.logins_refused = 0
        self.watches = WatchStream(self.opener, self._refused)

    def _refused(self) -> None:
        self.logins_refused += 1

    @property
    def stream(self) -> ScriptedStream:
        return self.opener.last

    def watch(self, key: bytes = b"k", start_revision: int = 0) -> tuple[Any, list[WatchMessage]]:
        """A watch, and what it brings."""
        got: list[WatchMessage] = []
        return self.watches.add(key, b"", start_revision, got.append, 5.0), got

    async def break_stream(self) -> None:
        """The stream breaks; the next one stands when this returns."""
        before = len(self.opener.streams)
        self.stream.end(RESET)
        await anyio.sleep(2)
        assert len(self.opener.streams) == before + 1

    def starts(self) -> list[int]:
        """From which revisions the creations on the present stream ask to start; 0 is "now"."""
        return [request.start_revision for request in self.stream.sent if isinstance(request, WatchCreateRequest)]

    def cancelled(self) -> list[int]:
        """Which watches etcd was asked to cancel on the present stream."""
        return [request.watch_id for request in self.stream.sent if isinstance(request, WatchCancelRequest)]

    def asked_for_progress(self) -> int:
        """How often etcd was asked how far the watches are, on all streams."""
        return sum(isinstance(request, WatchProgressRequest) for one in self.opener.streams for request in one.sent)

    def report_progress(self, revision: int) -> None:
        """etcd says how far all watches of the stream are."""
        self.stream.bring(WatchResponse(header(revision), ALL_WATCHES))

    def created(self, watch_id: int, revision: int, **more: Any) -> None:
        """A creation is answered."""
        self.stream.bring(WatchResponse(header(revision), watch_id, created=True, **more))

    def happened(self, watch_id: int, *revisions: int, at: int = 0) -> None:
        """Events come, by default under the header of the last one; with none it is a progress notification."""
        events = [WatchEvent("put", KeyValue(b"k", mod_revision=revision)) for revision in revisions]
        self.stream.bring(WatchResponse(header(at or revisions[-1]), watch_id, events=events))

    def canceled(self, watch_id: int, **more: Any) -> None:
        """etcd ends a watch."""
        self.stream.bring(WatchResponse(header(0), watch_id, canceled=True, **more))


def revisions(got: list[WatchMessage]) -> list[int]:
    return [event.kv.mod_revision for message in got if isinstance(message, WatchEvents) for event in message.events]
