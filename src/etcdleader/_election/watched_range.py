"""A watch that is created again after etcd has cancelled it."""

from __future__ import annotations

import math

import anyio

from .._etcd.api import EtcdApi, WatchBroken, WatchCanceled, WatchCreated, WatchHandle, WatchMessage, WatchSink
from .._lease.backoff import Backoff
from ..errors import EtcdLeaderError
from .election_listener import WatchListener


class WatchedRange:
    """A watch of one key or range.

    The connection resumes a watch whose stream broke. If etcd has cancelled a watch (compacted, refused), ``open_all``
    creates it again. The pauses before that grow unless the watch had lasted for ``retry``. A creation alone does not end
    them: etcd may cancel each watch right after it.
    """

    __slots__ = (
        *("_api", "_created_at", "_failed", "_handle", "_key", "_listener", "_pauses", "_range_end", "_retry", "_sink"),
    )

    def __init__(
        self,
        api: EtcdApi,
        key: bytes,
        range_end: bytes,
        *,
        sink: WatchSink,
        retry: float,
        listener: WatchListener | None = None,
    ) -> None:
        """Create no watch yet.

        Args:
            api: Creates the watches.
            key: The key, or the first key of the range.
            range_end: The first key after the range; empty for a single key.
            sink: Receives each message except ``WatchBroken``, which shows nothing about the range.
            retry: The timeout of a creation, and the longest pause after cancellations, in seconds.
            listener: Receives the failures of this watch, and its recovery.
        """
        self._api = api
        self._key = key
        self._range_end = range_end
        self._sink = sink
        self._retry = retry
        self._listener = listener
        self._handle: WatchHandle | None = None
        self._pauses: Backoff | None = None
        self._created_at = math.inf
        self._failed = False

    @property
    def is_open(self) -> bool:
        """True if the watch exists or is being created."""
        return self._handle is not None

    @staticmethod
    async def open_all(*ranges: WatchedRange) -> None:
        """Create the watches that do not exist. Wait first for the longest of their pauses after cancellations."""
        closed = [one for one in ranges if not one.is_open]
        if pause := max((one.draw_pause() for one in closed), default=0.0):
            await anyio.sleep(pause)
        for one in closed:
            one.open()

    def draw_pause(self) -> float:
        """Return the seconds to wait before creating the watch: 0 unless etcd has refused it or soon cancelled it."""
        return 0.0 if self._pauses is None else self._pauses.next()

    def open(self) -> None:
        """Create the watch without a pause."""
        self._handle = self._api.watch(self._key, self._range_end, sink=self._received, timeout=self._retry)

    def close(self) -> None:
        """End the watch. ``open`` can create it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = self._pauses = None
        self._recover()

    def _received(self, message: WatchMessage) -> None:
        if isinstance(message, WatchBroken):
            self._fail(message.error)
            return
        if isinstance(message, WatchCanceled):
            self._handle = None
            self._cancelled(compacted=bool(message.compact_revision))
            if not message.compact_revision:
                self._fail(message.error)
        elif isinstance(message, WatchCreated):
            if not message.resumed:
                self._created_at = anyio.current_time()
            self._recover()
        self._sink(message)

    def _cancelled(self, *, compacted: bool) -> None:
        lasted = anyio.current_time() >= self._created_at + self._retry
        self._created_at = math.inf
        if lasted:
            self._pauses = None
        if not (lasted and compacted):  # a watch falls behind a compaction in an outage, too
            self._pauses = self._pauses or Backoff(self._retry, self._api.uniform)

    def _fail(self, error: EtcdLeaderError) -> None:
        if self._listener is not None:
            self._failed = True
            self._listener.watch_failed(self, error)

    def _recover(self) -> None:
        if self._failed and self._listener is not None:
            self._failed = False
            self._listener.watch_recovered(self)


def may_miss_events(message: WatchMessage, known_revision: int) -> bool:
    """Return whether a read must follow this message, because the watch may have missed events.

    Args:
        message: A message of the watch.
        known_revision: The revision of the last read.
    """
    if isinstance(message, WatchCreated):
        return message.resumed or message.revision > known_revision
    return isinstance(message, WatchCanceled)
