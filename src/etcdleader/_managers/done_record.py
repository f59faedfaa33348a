"""The record in etcd that work is done: read before the work, written after it, and watched by waiting candidates.

This module is imported at the first campaign of ``run_once``, not with the package.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import anyio

from .._election.watched_range import WatchedRange, may_miss_events
from .._etcd.api import (
    Compare,
    DeleteRange,
    KeyValue,
    Range,
    RangeResult,
    WatchEvents,
    WatchMessage,
)
from .._lease.backoff import Backoff
from .._lease.shared_connection import SharedConnection
from .._runtime.events import Event
from .._runtime.tasks import ProtectedTaskGroup
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError, LeadershipLostError
from ..model import Term
from .campaign import Campaign
from .once import Once, record_key
from .reporter import Reporter

T = TypeVar("T")


class DoneRecord:
    """The record of one piece of work, in one campaign of ``run_once``.

    Each waiting candidate watches the record, and leaves the queue when the record appears. That is one event and one
    LeaseRevoke for each, fewer requests than its join took. Without the watch, the candidates would be elected one after
    another. One that is frozen, or from another library, would hold up all behind it.
    """

    def __init__(
        self,
        connection: SharedConnection,
        campaign: Campaign,
        once: Once,
        election_key: str,
        *,
        retry: float,
        reporter: Reporter,
    ) -> None:
        self._connection = connection
        self._campaign = campaign
        self._once = once
        self._key = record_key(election_key, once.name)
        self._retry = retry
        self._reporter = reporter
        self._written: set[bytes] = set()
        """The values that this process has sent. One without a response may be in etcd."""
        self._unheeded: KeyValue | None = None
        """The record that appeared while the work ran."""
        self._stale = True
        self._known_revision = 0
        self._changed = Event()
        self._looked = Event()
        self._watched = WatchedRange(
            connection.api, self._key, b"", sink=self._received, retry=retry, listener=reporter
        )

    async def run(self, contend: Callable[[], Awaitable[None]]) -> None:
        """Look at the record. Without one, campaign until it exists."""
        self._once.record = self
        failure: Exception | None = None
        try:
            async with ProtectedTaskGroup() as group:
                group.start_soon(self._follow)
                with self._campaign.interruptible():
                    await self._looked.wait()
                try:
                    await contend()
                except Exception as error:  # noqa: BLE001 - raised below, outside the exception group
                    failure = error
                group.cancel_scope.cancel()
        finally:
            self._watched.close()
        if failure is not None:
            raise failure

    # For waiting candidates

    async def _follow(self) -> None:
        """Watch the record until cancelled. Read it first, and again whenever an event may have been missed."""
        backoff = Backoff(self._retry, self._connection.uniform)
        while True:
            changed = self._changed = Event()
            if self._stale and not await self._look():
                await changed.wait_for(backoff.next())
                continue
            backoff.reset()
            await WatchedRange.open_all(self._watched)
            if not self._stale:
                await changed.wait()

    async def _look(self) -> bool:
        """Read the record. Return False if etcd did not answer."""
        try:
            result = await self._connection.reads.read([Range(self._key)], self._retry)
        except EtcdLeaderError as error:
            if self._looked.is_set() or isinstance(error, EtcdUnavailableError):
                self._reporter.etcd_failed(error)
                return False
            self._campaign.fail(self._explained(error))
        else:
            self._stale, self._known_revision = False, result.header.revision
            self._reporter.etcd_answered()
            for kv in _kvs(result.results[0]):
                self._on_record(kv)
        self._looked.set()
        return True

    def _received(self, message: WatchMessage) -> None:
        self._stale |= may_miss_events(message, self._known_revision)
        if isinstance(message, WatchEvents):
            for event in message.events:
                if event.type == "put":
                    self._on_record(event.kv)
        self._changed.set()

    def _on_record(self, kv: KeyValue) -> None:
        """End the campaign, because the work is done. Work that runs continues, even if an operator has put the record."""
        if self._once.running:
            self._unheeded = kv
        else:
            self._finish(done_here=kv.value in self._written)

    def work_ended(self) -> None:
        """Act on a record that appeared while the work ran: its own one, whose response was lost, or an operator's."""
        if self._unheeded is not None:
            self._on_record(self._unheeded)

    def _finish(self, *, done_here: bool) -> None:
        self._campaign.result = done_here
        self._campaign.stop()

    # For the leader

    async def done_by_this_process(self, term: Term) -> bool | None:
        """Return None if the work is not done, otherwise whether this process did it.

        The Txn changes nothing, but needs the permission to write the record. Without it, the work must not begin.

        Raises:
            EtcdRefusedError: The user may not read and write the record.
            LeadershipLostError: The term is over, and etcd has not answered.
        """
        never = [Compare(self._key, "version", 0, "<")]
        result = await self._answered(
            term,
            lambda: self._connection.txn(never, [DeleteRange(self._key)], [Range(self._key)], timeout=self._retry),
        )
        found = _kvs(result.results[0])
        return found[0].value in self._written if found else None

    async def write(self, term: Term) -> None:
        """Record that the work is done. The transaction is guarded, so a leader that has lost its term records nothing.

        Raises:
            EtcdRefusedError: etcd refused the record.
            LeadershipLostError: The term is over, and the work may not be recorded.
        """
        from .._etcd.etcd3_txn import put

        value = _describe(term)
        self._written.add(value)
        recorded, _ = await self._answered(term, lambda: term.transaction([put(self._key, value)]))
        if not recorded:
            raise LeadershipLostError(term)
        self._finish(done_here=True)

    async def _answered(self, term: Term, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until etcd answers, while the term lasts. Each of these calls may be applied more than once."""
        backoff = Backoff(self._retry, self._connection.uniform)
        while True:
            try:
                return await call()
            except EtcdUnavailableError as error:
                if not term.is_valid():
                    raise LeadershipLostError(term) from error
                self._reporter.etcd_failed(error)
            except EtcdRefusedError as error:
                raise self._explained(error) from error
            await anyio.sleep(backoff.next())

    def _explained(self, error: EtcdLeaderError) -> EtcdLeaderError:
        if not isinstance(error, EtcdRefusedError):
            return error
        prefix = self._key.partition(b"@done/")[0].decode() + "@done/"
        return EtcdRefusedError(f"{error}. run_once needs the permission readwrite for the prefix {prefix!r}")


def _describe(term: Term) -> bytes:
    """Return the value of a record: the term in which the work was done, and the time by the wall clock."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"identity": term.identity, "token": term.token, "at": now}).encode()


def _kvs(result: object) -> tuple[KeyValue, ...]:
    assert isinstance(result, RangeResult)
    return result.kvs
