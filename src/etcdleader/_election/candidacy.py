"""One candidacy: grant a lease, join the queue, wait until first, monitor the leadership, release it.

On the wire it is ``concurrency.Election`` from etcd's Go client, so candidates of both share one queue. The queue's state
comes from one linearizable read, or from our own Txn, and from the events after it (``queue``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import anyio
import anyio.lowlevel

from .._etcd.api import (
    KeyValue,
    LeaseNotFoundError,
    Range,
    RangeResult,
    Result,
    TxnResult,
    WatchCanceled,
    WatchCreated,
    WatchEvents,
    WatchMessage,
)
from .._lease.backoff import Backoff
from .._lease.key_update import update_value
from .._lease.leased_key import LeasedKey
from .._lease.session import Session
from .._lease.shared_connection import SharedConnection
from .._runtime.events import Event
from ..errors import EtcdLeaderError, EtcdRegressedError, EtcdUnavailableError
from ..model import LossReason
from .candidate_value import record_of, record_of_own
from .context import ElectionContext
from .queue import QueuePosition, Rank, candidate_key, election_prefix, prefix_end
from .requests import MAX_KEYS_SHOWN, join_request, newest_up_to
from .watched_range import WatchedRange


class CandidacyOverError(EtcdLeaderError):
    """The end of this candidacy. The campaign can start a new one.

    Attributes:
        reason: The reason of the loss.
        error: The error from etcd that caused the loss, if any.
    """

    def __init__(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        self.reason = reason
        self.error = error
        super().__init__(reason, error)


class Candidacy:
    """One candidacy, with one lease, one key and at most one term.

    A new candidacy uses a new lease and a new key. So a delayed request of an old candidacy fails, because its lease no
    longer exists.
    """

    __slots__ = (
        "_asked_to_requeue",
        "_changed",
        "_connection",
        "_context",
        "_joined",
        "_listener",
        "_position",
        "_prefix",
        "_received_meanwhile",
        "_retry",
        "_watched",
        "_won",
        "session",
    )

    def __init__(self, connection: SharedConnection, context: ElectionContext) -> None:
        self._connection = connection
        self._context = context
        self._listener = context.listener
        self._retry = context.timing.retry
        self._prefix = election_prefix(context.election_key)
        self.session = Session(
            connection,
            context.timing,
            clock=context.clock,
            listener=context.listener,
            owner=self,
            readable=self._prefix,
        )
        self.session.on_lost = self._wake
        self._position = QueuePosition(0, 0, None)
        self._watched: dict[tuple[bytes, bytes], WatchedRange] = {}
        self._received_meanwhile: list[WatchMessage] | None = None
        self._changed = Event()
        self._joined = Event()
        self._won = self._asked_to_requeue = False

    @property
    def key(self) -> bytes:
        """The candidate key."""
        return self.session.own.key

    @property
    def token(self) -> int:
        """The fencing token: the create_revision of the candidate key; 0 until the key exists."""
        return self.session.own.create_revision

    async def join(self) -> None:
        """Request a lease and join the queue. Retry after errors, which the listener receives.

        Raises:
            CandidacyOverError: The lease ended before the candidate had joined.
            EtcdRegressedError: The cluster's revision went back.
        """
        await self.session.open()
        key = candidate_key(self._context.election_key, self.session.lease_id)
        self.session.own = LeasedKey(key, self._context.value(), 0, self.session.lease_id)
        backoff = Backoff(self._retry, self._connection.uniform)
        while not await self._try_join():  # noqa: ASYNC110 - joining is polled: etcd sends no event
            await anyio.sleep(backoff.next())
        self._listener.etcd_answered()
        self.session.keep_alive()
        self._on_position_changed()
        self._joined.set()

    async def wait_until_first(self) -> None:
        """Wait until this candidate leads: its key is the oldest in the queue, and its lease is trusted.

        Raises:
            CandidacyOverError: The key or the lease was lost.
            EtcdRegressedError: The cluster's revision went back.
        """
        while self._asked_to_requeue or not self._has_won():
            await self._step()
        self._raise_if_lost()
        self._won = True

    def _has_won(self) -> bool:
        if self._position.stale or self._position.rank is not Rank.LEADER:
            return False
        if self.session.is_valid():
            return True
        # etcd has elected another leader since the grant. The key first moves to a new lease, which can be trusted.
        self.session.start_move()
        return False

    async def monitor(self) -> NoReturn:
        """Monitor our key while leading, until cancelled. The session reports a loss."""
        await anyio.lowlevel.checkpoint()  # let the tasks that wait for the election run first
        while True:
            try:
                await self._step()
            except (CandidacyOverError, EtcdRegressedError):
                # The session has reported the loss, and its receiver cancels this task.
                await anyio.sleep_forever()

    async def release(self) -> None:
        """Leave the queue: revoke the lease, which deletes the key in the same step. This takes at most ``retry``."""
        for watched in self._watched.values():
            watched.close()
        await self.session.close()
        self._joined.set()
        self._listener.leader_left(self.key.decode())
        self._listener.queued(None)

    async def update_value(self, value: bytes) -> None:
        """Put a value on our key as ``key_update.update_value``, after the candidate has joined the queue."""
        await self._joined.wait_for(self._retry)
        if not self._joined.is_set():
            raise EtcdUnavailableError(f"the candidate did not join the queue within {self._retry:g} s: try again")
        await update_value(self.session, self._connection, value)

    # Joining

    async def _try_join(self) -> bool:
        """Try once to join the queue. Return whether etcd has shown the key in it."""
        if not self.session.is_valid():
            raise self._over(LossReason.EXPIRED)
        compare, success, failure = join_request(self._prefix, self.key, self.session.own.value, self.session.lease_id)
        try:
            result = await self._connection.call_limiter.run(
                lambda: self._connection.txn(compare, success, failure, timeout=self._retry)
            )
        except LeaseNotFoundError as error:
            raise self._over(LossReason.REVOKED, error) from error
        except EtcdRegressedError:
            raise
        except EtcdLeaderError as error:
            # etcd may have applied the Txn even if it responded with an error, so only a read shows the outcome.
            self._listener.etcd_failed(error)
            return await self._find_own()
        if not result.succeeded:
            return self._adopt(_range(result.results[0]))
        self._set_create_revision(result.header.revision)
        queue = _range(result.results[1])
        self._position = QueuePosition.joined(result.header.revision, queue.kvs, queue.count)
        if len(queue.kvs) == queue.count:
            self._listener.leader_seen(record_of(queue.kvs[-1]))
        return True

    async def _find_own(self) -> bool:
        try:
            own = Range(self.key)
            found = await self._connection.call_limiter.run(lambda: self._connection.range(own, timeout=self._retry))
        except EtcdRegressedError:
            raise
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return False
        return self._adopt(found)

    def _adopt(self, found: RangeResult) -> bool:
        """Adopt a key that an earlier attempt has put. It is ours only if it is on our lease."""
        if not found.kvs:
            return False
        kv = found.kvs[0]
        if kv.lease != self.session.lease_id:
            raise self._over(LossReason.DELETED)
        self._set_create_revision(kv.create_revision)
        self._position = QueuePosition(found.header.revision, 2, None, stale=True, own_mod_revision=kv.create_revision)
        return True

    def _over(self, reason: LossReason, error: EtcdLeaderError | None = None) -> CandidacyOverError:
        """End the session. Past its deadline the reason is EXPIRED."""
        self.session.invalidate(reason, error)
        return CandidacyOverError(self.session.loss_reason or reason, error)

    def _set_create_revision(self, create_revision: int) -> None:
        self.session.own = replace(self.session.own, create_revision=create_revision)

    # Waiting and monitoring

    async def _step(self) -> None:
        """Read the queue if the position is stale. Otherwise, watch, and wait for a change."""
        self._raise_if_lost()
        if self._asked_to_requeue:
            raise CandidacyOverError(LossReason.RESIGNED)  # before any term has begun
        if self._position.stale:
            await self._read_queue()
            return
        # Replace the event before any await, so that no change is missed between the check and the wait.
        changed = self._changed = Event()
        await self._watch()
        await changed.wait()

    def _raise_if_lost(self) -> None:
        if self._position.lost:
            self.session.invalidate(LossReason.DELETED)
        else:
            self.session.check_expiry()
        if self.session.loss_reason is None:
            return
        if isinstance(self.session.error, EtcdRegressedError):
            raise self.session.error
        raise CandidacyOverError(self.session.loss_reason, self.session.error)

    async def _read_queue(self) -> None:
        """Read the newest keys up to ours. They show our predecessor, and whether another key is in front of it."""
        newest = newest_up_to(self._prefix, self.token, limit=MAX_KEYS_SHOWN)
        backoff = Backoff(self._retry, self._connection.uniform)
        while (answer := await self._try_read(newest)) is None:
            self._raise_if_lost()
            await anyio.sleep(backoff.next())
            self._raise_if_lost()
        result, overheard = answer
        self._listener.etcd_answered()
        found = _range(result.results[0]).kvs
        self._position = self._position.on_read(self.session.own, result.header.revision, found)
        if 0 < len(found) < MAX_KEYS_SHOWN:  # otherwise, the leader may be further ahead
            self._listener.leader_seen(record_of(found[-1]))
        # Messages received during the read may be newer than its result.
        for message in overheard:
            self._apply(message)
        self._on_position_changed()
        self._raise_if_lost()

    async def _try_read(self, request: Range) -> tuple[TxnResult, list[WatchMessage]] | None:
        """Try one read. Return its result and the watch messages received during it; None if it failed."""
        overheard: list[WatchMessage] = []
        self._received_meanwhile = overheard
        try:
            result = await self._connection.reads.read([request], self._retry)
        except EtcdRegressedError as error:
            self.session.invalidate(LossReason.REGRESSED, error)
            raise
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return None
        finally:
            self._received_meanwhile = None
        return result, overheard

    async def _watch(self) -> None:
        """Watch the keys that matter at our rank."""
        prefix = (self._prefix, prefix_end(self._prefix))
        is_open = prefix in self._watched and self._watched[prefix].is_open
        wanted = self._position.ranges_to_watch(self.key, prefix, prefix_is_watched=is_open)
        # Do not iterate over a set: its order differs between processes, and a seed must reproduce its schedule.
        for unwanted in [one for one in self._watched if one not in wanted]:
            self._watched.pop(unwanted).close()
        for key, end in wanted:
            if (key, end) not in self._watched:
                self._watched[key, end] = WatchedRange(
                    self._connection.api, key, end, sink=self._received, retry=self._retry, listener=self._listener
                )
        self.session.also_read(self._position.predecessor)
        await WatchedRange.open_all(*self._watched.values())

    def _received(self, message: WatchMessage) -> None:
        if self._received_meanwhile is not None:
            self._received_meanwhile.append(message)
        self._apply(message)
        self._on_position_changed()
        self._wake()

    def _apply(self, message: WatchMessage) -> None:
        if isinstance(message, WatchCreated):
            self._position = self._position.on_watch_created(message.revision, resumed=message.resumed)
        elif isinstance(message, WatchEvents):
            for kv in self._position.leader_puts(message.events):
                self._listener.leader_seen(record_of(kv))
            self._position = self._position.apply(self.session.own, message.events)
        elif isinstance(message, WatchCanceled):
            self._position = replace(self._position, stale=True)

    def _on_position_changed(self) -> None:
        """Act on the new position at once, so that the deletion of our key ends the term before any task runs."""
        if self._position.shows_new_value:
            self._position = replace(self._position, shows_new_value=False)
            self.session.own = self.session.own.updated()
        if self._position.lost:
            self.session.invalidate(LossReason.DELETED)
            return
        self.session.set_near_front(self._position.rank is not Rank.WAITING)
        self._report_own()
        self._listener.queued(self._position.position)
        self._listener.blocked(self._position.blocker)
        if self._position.asked_to_resign:
            self._position = replace(self._position, asked_to_resign=False)
            if self._won:
                self._listener.asked_to_resign()
            else:
                self._asked_to_requeue = True
                self._wake()

    # KeyOwner: for the session

    @property
    def mod_revision(self) -> int:
        """The last known mod_revision of our key."""
        return self._position.own_mod_revision

    def read_with_move(self) -> Sequence[Range]:
        """Return a Range of our key and its predecessor. Without a predecessor, the move itself wins the election."""
        if self._position.rank is Rank.LEADER:
            return ()
        return [newest_up_to(self._prefix, self.token, limit=2)]

    def on_key_moved(self, mod_revision: int, read: Sequence[Result]) -> None:
        """Process a move of our key to another lease."""
        first = bool(read) and len(_range(read[-1]).kvs) == 1
        self._position = self._position.on_own_key_moved(mod_revision, first=first)
        self._on_position_changed()
        self._wake()

    def on_key_updated(self, mod_revision: int) -> None:
        """Process the response to the Txn that has put our new value."""
        self._position = self._position.on_own_key_updated(mod_revision)
        self._on_position_changed()

    def on_key_read(self, kv: KeyValue) -> None:
        """Process a step-down request that a read shows before the watch delivers it."""
        self._report_own()
        if kv.mod_revision > self._position.own_mod_revision:
            self._position = self._position.on_own_key(self.session.own, kv)
            self._on_position_changed()

    def on_predecessor_absent(self) -> None:
        """Read the queue again, because a renewal found no predecessor: the watch has missed the DELETE."""
        self._position = replace(self._position, stale=True)
        self._wake()

    def _report_own(self) -> None:
        if self._position.rank is Rank.LEADER:
            self._listener.leader_seen(record_of_own(self.session.own))

    def _wake(self) -> None:
        self._changed.set()


def _range(result: object) -> RangeResult:
    assert isinstance(result, RangeResult)
    return result
