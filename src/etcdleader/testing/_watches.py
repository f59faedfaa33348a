"""The watches that one etcd member serves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from .._etcd.api import Header, WatchEvent
from .._etcd.messages import WatchCreateRequest, WatchResponse
from ._store import Commit, Store, in_range


@dataclass(eq=False, slots=True)
class ServerWatch:
    """One watch.

    Attributes:
        request: The request that created it. Its ``start_revision`` is 0 for "now".
        next_revision: The first revision whose events are still to be sent.
        synced: It has caught up, so it receives each commit at once.
        send: Is called with each response after that to the creation, in order.
    """

    request: WatchCreateRequest
    next_revision: int
    synced: bool
    send: Callable[[WatchResponse], None]

    @property
    def key(self) -> bytes:
        """The key, or the first one of the range."""
        return self.request.key

    def concerns(self, event: WatchEvent) -> bool:
        """Return whether it watches the key of this event."""
        return in_range(event.kv.key, self.key, self.request.range_end)


class Watches:
    """All watches of one member.

    Attributes:
        behind: True if a watch waits for the catch-up loop.
    """

    def __init__(self, header: Callable[[], Header]) -> None:
        """Create the collection for a member. ``header`` returns the header of its next response."""
        self.behind = False
        self._header = header
        # Separate, because there may be ten thousand watches on one key each, and a commit concerns two or three. The
        # dicts keep the watches in the order of their creation.
        self._on_one_key: defaultdict[bytes, dict[ServerWatch, None]] = defaultdict(dict)
        self._on_a_range: dict[ServerWatch, None] = {}

    def open(self, request: WatchCreateRequest, send: Callable[[WatchResponse], None]) -> ServerWatch:
        """Create a watch. If it starts in the past, it is unsynced until the catch-up loop serves it."""
        start, revision = request.start_revision, self._header().revision
        watch = ServerWatch(request, start or revision + 1, start == 0 or start > revision, send)
        self._beside(watch)[watch] = None
        self.behind = self.behind or not watch.synced
        return watch

    def close(self, watch: ServerWatch) -> None:
        """Remove a watch. A second call does nothing."""
        watches = self._beside(watch)
        watches.pop(watch, None)
        if not watches and watches is not self._on_a_range:
            del self._on_one_key[watch.key]

    def notify(self, commit: Commit) -> None:
        """Send the events of one commit to the watches that have caught up, one message for each watch."""
        events: defaultdict[ServerWatch, list[WatchEvent]] = defaultdict(list)
        for event in commit.events:
            for watch in self._concerned(event):
                if watch.synced and commit.revision >= watch.next_revision:
                    events[watch].append(event)
        for watch, of_one in events.items():
            self._send(watch, of_one, commit.revision)

    def catch_up(self, store: Store) -> None:
        """Send the missed events to watches from the past, up to the revision that this member has applied."""
        self.behind = False
        revision = self._header().revision
        for watch in [one for one in self._all() if not one.synced]:
            if watch.next_revision < store.compacted:
                self.close(watch)
                reason = "etcdserver: mvcc: required revision has been compacted"
                response = WatchResponse(self._header(), watch.request.watch_id, canceled=True, cancel_reason=reason)
                watch.send(response._replace(compact_revision=store.compacted))
                continue
            commits = [commit for commit in store.since(watch.next_revision) if commit.revision <= revision]
            events = [event for commit in commits for event in commit.events if watch.concerns(event)]
            watch.synced = True
            self._send(watch, events, revision)

    def _send(self, watch: ServerWatch, events: Sequence[WatchEvent], revision: int) -> None:
        """Send the events, if there are any, up to a revision."""
        watch.next_revision = revision + 1
        if events:
            watch.send(WatchResponse(self._header(), watch.request.watch_id, events=tuple(events)))

    def _all(self) -> Iterator[ServerWatch]:
        return chain(self._on_a_range, *self._on_one_key.values())

    def _beside(self, watch: ServerWatch) -> dict[ServerWatch, None]:
        """Return the watches among which this one is."""
        return self._on_a_range if watch.request.range_end else self._on_one_key[watch.key]

    def _concerned(self, event: WatchEvent) -> Iterator[ServerWatch]:
        yield from self._on_one_key.get(event.kv.key, ())
        yield from (watch for watch in self._on_a_range if watch.concerns(event))
