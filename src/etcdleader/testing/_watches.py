"""The watches that one etcd member serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .._etcd.api import WatchCanceled, WatchCreated, WatchEvent, WatchEvents, WatchMessage
from ..errors import EtcdUnavailableError
from ._store import Revision, Store, in_range


@dataclass(eq=False, slots=True)
class ServerWatch:
    """One watch.

    Attributes:
        next_revision: The first revision whose events are still to be sent.
        start_revision: The requested start; 0 is "now".
        synced: It has caught up, so it receives each commit at once.
        send: Is called with each message, in order.
    """

    key: bytes
    range_end: bytes
    start_revision: int
    next_revision: int
    synced: bool
    send: Callable[[WatchMessage], None]


class Watches:
    """All watches of one member.

    Attributes:
        behind: True if a watch waits for the catch-up loop.
    """

    def __init__(self) -> None:
        self.behind = False
        # Separate, because there may be ten thousand watches on one key each, and a commit concerns two or three.
        self._on_one_key: dict[bytes, list[ServerWatch]] = {}
        self._on_a_range: list[ServerWatch] = []

    def open(
        self,
        key: bytes,
        range_end: bytes,
        start_revision: int,
        send: Callable[[WatchMessage], None],
        *,
        revision: int,
    ) -> ServerWatch:
        """Create a watch on a member at ``revision``. A watch with an earlier start is unsynced until the catch-up loop serves it."""
        watch = ServerWatch(
            key,
            range_end,
            start_revision=start_revision,
            next_revision=start_revision or revision + 1,
            synced=start_revision == 0 or start_revision > revision,
            send=send,
        )
        if range_end:
            self._on_a_range.append(watch)
        else:
            self._on_one_key.setdefault(key, []).append(watch)
        self.behind = self.behind or not watch.synced
        send(WatchCreated(revision))
        return watch

    def close(self, watch: ServerWatch) -> None:
        """Remove a watch. A second call does nothing."""
        if watch.range_end:
            if watch in self._on_a_range:
                self._on_a_range.remove(watch)
            return
        on_this_key = self._on_one_key.get(watch.key, [])
        if watch in on_this_key:
            on_this_key.remove(watch)
            if not on_this_key:
                del self._on_one_key[watch.key]

    def notify(self, commit: Revision) -> None:
        """Send the events of one commit to the watches that have caught up, one message for each watch."""
        events: dict[ServerWatch, list[WatchEvent]] = {}
        for event in commit.events:
            for watch in self._concerned(event):
                if watch.synced and commit.revision >= watch.next_revision:
                    events.setdefault(watch, []).append(event)
        for watch, of_one in events.items():
            watch.next_revision = commit.revision + 1
            watch.send(WatchEvents(tuple(of_one)))

    def catch_up(self, store: Store, revision: int) -> None:
        """Send the missed events to watches from the past, up to the ``revision`` that this member has applied."""
        self.behind = False
        for watch in list(self._all()):
            if watch.synced:
                continue
            if watch.next_revision < store.compacted:
                self.close(watch)
                error = EtcdUnavailableError("etcdserver: mvcc: required revision has been compacted")
                watch.send(WatchCanceled(error, store.compacted))
                continue
            events = _concerning(watch, store.since(watch.next_revision), revision)
            watch.synced, watch.next_revision = True, revision + 1
            if events:
                watch.send(WatchEvents(events))

    def _all(self) -> Iterator[ServerWatch]:
        yield from self._on_a_range
        for on_this_key in self._on_one_key.values():
            yield from on_this_key

    def _concerned(self, event: WatchEvent) -> Iterator[ServerWatch]:
        key = event.kv.key
        yield from self._on_one_key.get(key, ())
        yield from (watch for watch in self._on_a_range if in_range(key, watch.key, watch.range_end))


def _concerning(watch: ServerWatch, commits: Sequence[Revision], last: int) -> tuple[WatchEvent, ...]:
    return tuple(
        event
        for commit in commits
        if commit.revision <= last
        for event in commit.events
        if in_range(event.kv.key, watch.key, watch.range_end)
    )
