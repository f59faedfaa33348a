"""A view of an election's leader and queue, and of each change of leader. It needs no lease and no candidacy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel

from .._etcd.api import (
    KeyValue,
    Range,
    RangeResult,
    WatchCanceled,
    WatchCreated,
    WatchEvents,
    WatchMessage,
)
from .._lease.backoff import Backoff
from .._lease.shared_connection import SharedConnection
from ..errors import EtcdLeaderError, EtcdRegressedError
from ..model import LeaderRecord
from .candidate_value import record_of
from .election_listener import Listener
from .queue import election_prefix, prefix_end
from .watched_range import WatchedRange

_READ_AGAIN_RETRIES = 3
"""In units of ``retry``: after this time without a watch message, read again. A candidate needs no such read: it renews."""


def _same_leader(one: LeaderRecord | None, other: LeaderRecord | None) -> bool:
    """Return whether two records are equal except for the lease, which changes when etcd elects another leader."""
    if one is None or other is None:
        return one is other
    return replace(one, lease_id=other.lease_id) == other


async def read_records(
    connection: SharedConnection, election_key: str, *, limit: int, timeout: float
) -> list[LeaderRecord]:
    """Return the first ``limit`` candidates in order, or all if it is 0. The first one leads.

    Raises:
        EtcdUnavailableError: etcd did not respond.
        EtcdRefusedError: etcd refused the read.
        EtcdRegressedError: The cluster's revision went back.
    """
    prefix = election_prefix(election_key)
    result = await connection.range(
        Range(prefix, prefix_end(prefix), limit=limit, order="create-ascending"), timeout=timeout
    )
    return [record_of(kv) for kv in result.kvs]


class Observer:
    """An iterator over the changes of leader. Each item is the newest state, so there is never a backlog.

    A state always comes from one linearizable read. So it is never a wrong leader, and never older than the item before.
    """

    def __init__(
        self,
        connection: SharedConnection,
        election_key: str,
        retry: float,
        listener: Listener,
    ) -> None:
        self._connection = connection
        self._election_key = election_key
        self._prefix = election_prefix(election_key)
        self._retry = retry
        self._listener = listener
        self._leader: KeyValue | None = None
        self._revision = 0
        self._stale = True
        self._changed_at = 0
        """The highest revision at which the leader may have changed."""
        self._reading = False
        self._returned: LeaderRecord | None = None
        self._started = False
        self._watched = WatchedRange(
            connection.api, self._prefix, prefix_end(self._prefix), sink=self._received, retry=retry, listener=listener
        )
        self._changed = anyio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[LeaderRecord | None]]:
        """Return a context manager whose value iterates over the states. Leaving it ends the watch."""
        try:
            yield self
        finally:
            self._listener.watch_recovered(self)
            self._watched.close()

    def __aiter__(self) -> AsyncIterator[LeaderRecord | None]:
        return self

    async def __anext__(self) -> LeaderRecord | None:
        """Wait for a state that differs from the last one returned.

        Raises:
            EtcdRegressedError: The cluster's revision went back.
        """
        await anyio.lowlevel.checkpoint()
        while True:
            # Replace the event before any await, so that no change is missed between the check and the wait.
            changed = self._changed = anyio.Event()
            await WatchedRange.open_all(self._watched)
            if self._stale or self._changed_at > self._revision:
                await self._read()
            state = None if self._leader is None else record_of(self._leader)
            if not self._started or not _same_leader(state, self._returned):
                self._started, self._returned = True, state
                return state
            with anyio.move_on_after(_READ_AGAIN_RETRIES * self._retry) as bound:
                await changed.wait()
            if bound.cancelled_caught:
                # A member that is frozen or cut off sends no events, so only a read detects that.
                self._stale = True

    async def _read(self) -> None:
        backoff = Backoff(self._retry, self._connection.uniform)
        while (result := await self._try_read()) is None:  # noqa: ASYNC110 - a failed read is repeated
            await anyio.sleep(backoff.next())
        self._listener.watch_recovered(self)
        # The revision never goes back: the connection has compared it with all that were known before the read.
        self._leader = result.kvs[0] if result.kvs else None
        self._revision = result.header.revision
        self._listener.leader_seen(None if self._leader is None else record_of(self._leader))

    async def _try_read(self) -> RangeResult | None:
        self._stale, self._reading = False, True
        result: RangeResult | None = None
        try:
            result = await self._connection.range(
                Range(self._prefix, prefix_end(self._prefix), limit=1, order="create-ascending"), timeout=self._retry
            )
        except EtcdRegressedError:
            raise
        except EtcdLeaderError as error:
            # Report it as this observer's watch. Its recovery then does not end the outage of a candidacy.
            self._listener.watch_failed(self, error)
        finally:
            self._reading = False
            if result is None:
                self._stale = True  # even if the caller was cancelled
        return result

    def _received(self, message: WatchMessage) -> None:
        if isinstance(message, WatchCanceled):
            self._stale = True
        elif isinstance(message, WatchCreated):
            # A watch does not deliver the events before its creation.
            self._stale = self._stale or message.resumed
            self._changed_at = max(self._changed_at, message.revision)
        elif isinstance(message, WatchEvents):
            for event in message.events:
                # Without a copy of the whole queue, only a read shows which key is first now. During a read, it is not
                # yet known which key matters, so every event counts.
                if self._reading or self._leader is None or event.kv.key == self._leader.key:
                    self._changed_at = max(self._changed_at, event.kv.mod_revision)
        self._changed.set()
