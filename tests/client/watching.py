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
        """Create a watch. Return it, and the list of its messages."""
        got: list[WatchMessage] = []
        return self.watches.add(key, b"", start_revision, got.append, 5.0), got

    async def break_stream(self) -> None:
        """Break the stream. The next one is open when this returns."""
        before = len(self.opener.streams)
        self.stream.end(RESET)
        await anyio.sleep(2)
        assert len(self.opener.streams) == before + 1

    def starts(self) -> list[int]:
        """Return the start revisions of the creations on the present stream; 0 is "now"."""
        return [request.start_revision for request in self.stream.sent if isinstance(request, WatchCreateRequest)]

    def cancelled(self) -> list[int]:
        """Return the watches that the client cancelled on the present stream."""
        return [request.watch_id for request in self.stream.sent if isinstance(request, WatchCancelRequest)]

    def asked_for_progress(self) -> int:
        """Return the number of progress requests on all streams."""
        return sum(isinstance(request, WatchProgressRequest) for one in self.opener.streams for request in one.sent)

    def report_progress(self, revision: int) -> None:
        """Report the progress of all watches of the stream."""
        self.stream.bring(WatchResponse(header(revision), ALL_WATCHES))

    def created(self, watch_id: int, revision: int, **more: Any) -> None:
        """Respond to a creation."""
        self.stream.bring(WatchResponse(header(revision), watch_id, created=True, **more))

    def happened(self, watch_id: int, *revisions: int, at: int = 0) -> None:
        """Deliver events, by default under the header of the last one. Without events it is a progress notification."""
        events = [WatchEvent("put", KeyValue(b"k", mod_revision=revision)) for revision in revisions]
        self.stream.bring(WatchResponse(header(at or revisions[-1]), watch_id, events=events))

    def canceled(self, watch_id: int, **more: Any) -> None:
        """Let etcd end a watch."""
        self.stream.bring(WatchResponse(header(0), watch_id, canceled=True, **more))


def revisions(got: list[WatchMessage]) -> list[int]:
    return [event.kv.mod_revision for message in got if isinstance(message, WatchEvents) for event in message.events]
