"""One key on one lease: grant, put, keep, update, release. A lost key is replaced by another object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from .._election.watched_range import WatchedRange, may_miss_events
from .._etcd.api import (
    Compare,
    KeyValue,
    LeaseNotFoundError,
    Put,
    Range,
    RangeResult,
    Result,
    WatchEvents,
    WatchMessage,
)
from .._lease.backoff import Backoff
from .._lease.key_update import update_value
from .._lease.lease_deadline import Timing
from .._lease.leased_key import LeasedKey
from .._lease.session import Session
from .._lease.shared_connection import SharedConnection
from .._runtime.clock import Clock
from .._runtime.events import Event
from .._runtime.fork import process_id
from ..errors import EtcdLeaderError, EtcdRegressedError
from ..model import LossReason
from ._reports import Reports


class EphemeralKey:
    """A key that exists as long as this process renews its lease. It is the ``KeyOwner`` of its session.

    It is kept like the key of a waiting candidate. If etcd has elected another leader and no move is possible, the key
    remains in etcd, but is not valid until it has moved.
    """

    def __init__(
        self, connection: SharedConnection, key: bytes, timing: Timing, *, clock: Clock, reports: Reports
    ) -> None:
        self._connection = connection
        self._key = key
        self._retry = timing.retry
        self._reports = reports
        self._process = process_id()
        self._mod_revision = 0
        self._known_revision = 0
        """The revision of the last response that has shown the key. A watch from then on misses nothing."""
        self._stale = False
        self._changed = Event()
        self._watched = WatchedRange(
            connection.api, key, b"", sink=self._received, retry=timing.retry, listener=reports
        )
        self.session = Session(connection, timing, clock=clock, listener=reports, owner=self, readable=key)
        self.session.on_lost = self._wake

    @property
    def is_put(self) -> bool:
        """True once etcd has shown the key, until it is lost."""
        return self.session.own.create_revision > 0 and self.session.loss_reason is None

    def is_valid(self) -> bool:
        """Return whether the key is in etcd, by the clock. Any thread may call this."""
        return self.session.own.create_revision > 0 and self._process == process_id() and self.session.is_valid()

    # Put

    async def put(self, value: Callable[[], bytes]) -> KeyValue | None:
        """Request a lease, and put the key on it. Retry after errors, which are reported.

        Args:
            value: Returns the value to put.

        Returns:
            None once etcd has shown the key, or when the lease was lost. Otherwise another client's key, which exists.

        Raises:
            EtcdRegressedError: The cluster's revision went back.
        """
        session, backoff = self.session, Backoff(self._retry, self._connection.uniform)
        await session.open()
        session.own = LeasedKey(self._key, value(), 0, session.lease_id)
        create = [Compare(self._key, "create", 0)], [Put(self._key, session.own.value, session.lease_id)]
        while session.is_valid():
            try:
                result = await self._connection.call_limiter.run(
                    lambda: self._connection.txn(*create, [Range(self._key)], timeout=self._retry)
                )
            except LeaseNotFoundError as error:
                session.invalidate(LossReason.REVOKED, error)
                return None
            except EtcdRegressedError as error:
                session.invalidate(LossReason.REGRESSED, error)
                raise
            except EtcdLeaderError as error:
                # etcd may have applied the Txn. The next one then finds the key on our lease.
                self._reports.etcd_failed(error)
                await anyio.sleep(backoff.next())
                continue
            if result.succeeded:
                self._begin(result.header.revision, result.header.revision)
                return None
            found = result.results[0]
            assert isinstance(found, RangeResult)
            if not found.kvs or found.kvs[0].lease != session.lease_id:
                return found.kvs[0] if found.kvs else None
            self._begin(found.kvs[0].create_revision, result.header.revision)
            return None
        session.invalidate(LossReason.EXPIRED)
        return None

    def _begin(self, create_revision: int, revision: int) -> None:
        session = self.session
        session.own = replace(session.own, create_revision=create_revision)
        self._mod_revision, self._known_revision = create_revision, revision
        self._reports.answered()
        session.keep_alive()
        session.set_near_front(True)

    # Keep

    async def wait_until_lost(self) -> LossReason:
        """Watch the key while its lease is renewed, until either is lost. Return the reason."""
        backoff = Backoff(self._retry, self._connection.uniform)
        while (reason := self.session.loss_reason) is None:
            changed = self._changed = Event()
            await WatchedRange.open_all(self._watched)
            if not self._stale:
                await changed.wait()
            elif await self._read():
                backoff.reset()
            else:
                await changed.wait_for(backoff.next())
        return reason

    async def _read(self) -> bool:
        """Read the key, because the watch may have missed an event. Return False if the read failed."""
        try:
            result = await self._connection.reads.read([Range(self._key)], self._retry)
        except EtcdRegressedError as error:
            self.session.invalidate(LossReason.REGRESSED, error)
        except EtcdLeaderError as error:
            self._reports.etcd_failed(error)
            return False
        else:
            found = result.results[0]
            assert isinstance(found, RangeResult)
            self._stale, self._known_revision = False, max(self._known_revision, result.header.revision)
            self._reports.answered()
            self._show(found.kvs[0] if found.kvs else None)
        return True

    def _received(self, message: WatchMessage) -> None:
        self._stale |= may_miss_events(message, self._known_revision)
        if isinstance(message, WatchEvents):
            for event in message.events:
                if event.kv.mod_revision > self._mod_revision:
                    self._show(event.kv if event.type == "put" else None)
        self._wake()

    def _show(self, kv: KeyValue | None) -> None:
        """Process the key as a read or an event shows it: None means that it was deleted."""
        if kv is not None and self.session.own.matches(kv, self._mod_revision):
            self.on_key_read(kv)
        else:
            self.session.invalidate(LossReason.DELETED)

    def _wake(self) -> None:
        self._changed.set()

    # Update

    async def update(self, value: bytes) -> None:
        """Change the value. Return when etcd has it, or when the key was lost; see ``update_value``."""
        await update_value(self.session, self._connection, value)

    # Release

    async def release(self) -> set[int]:
        """Revoke the leases, which deletes the key. Return their ids: if etcd did not answer, they still expire."""
        session = self.session
        leases = {session.lease_id, session.own.lease_id, session.own.moving_to} - {0}
        self._watched.close()
        await session.close()
        return leases

    # KeyOwner: for the session

    @property
    def mod_revision(self) -> int:
        """The last known mod_revision of the key."""
        return self._mod_revision

    def read_with_move(self) -> Sequence[Range]:
        """Return no Range: the move of this key concerns no other key."""
        return ()

    def on_key_moved(self, mod_revision: int, read: Sequence[Result]) -> None:
        """Record the mod_revision of the move."""
        del read
        self._mod_revision = max(self._mod_revision, mod_revision)
        self._wake()

    def on_key_read(self, kv: KeyValue) -> None:
        """Record the mod_revision, and an update whose response is missing."""
        if kv.mod_revision > self._mod_revision:
            if kv.value == self.session.own.new_value:
                self.session.own = self.session.own.updated()
            self._mod_revision = kv.mod_revision

    def on_key_updated(self, mod_revision: int) -> None:
        """Record the mod_revision of an update."""
        self._mod_revision = max(self._mod_revision, mod_revision)

    def on_predecessor_absent(self) -> None:
        """Do nothing: there is no predecessor."""
