"""One candidacy: grant a lease, join the queue, wait for the turn, hold the seat, withdraw.

On the wire it is etcd Go's ``concurrency.Election``: candidates of both stand in one queue. What is known of the queue
is what one linearizable read, or our own transaction, showed, plus the events after it (``queue``).
"""

from __future__ import annotations

import random
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
from .._lease.connection import Connection
from .._lease.leased_key import LeasedKey
from .._lease.session import Session
from .._runtime.events import LightEvent
from ..errors import EtcdLeaderError, EtcdRegressedError
from ..model import LossReason
from .context import ElectionContext
from .queue import Place, Rank, candidate_key, election_prefix, prefix_end
from .requests import MOST_SHOWN, join, newest_up_to
from .watched_range import WatchedRange

__all__ = ("Candidacy", "CandidacyOverError")


class CandidacyOverError(EtcdLeaderError):
    """This candidacy cannot go on; a new one can begin.

    Attributes:
        reason: What was lost.
        error: What etcd said, if that was it.
    """

    def __init__(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        self.reason = reason
        self.error = error
        super().__init__(reason, error)


class Candidacy:
    """One candidacy has one lease, one key, and at most one term. Nothing of it is used again: a late request of an
    old one finds its lease gone, and fails."""

    __slots__ = (
        "_changed",
        "_connection",
        "_context",
        "_listener",
        "_overheard",
        "_place",
        "_prefix",
        "_retry",
        "_watched",
        "session",
    )

    def __init__(self, connection: Connection, context: ElectionContext) -> None:
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
        self._place = Place(0, 0, None)
        self._watched: dict[tuple[bytes, bytes], WatchedRange] = {}
        self._overheard: list[WatchMessage] | None = None
        self._changed = LightEvent()

    @property
    def key(self) -> bytes:
        """The candidate key."""
        return self.session.own.key

    @property
    def token(self) -> int:
        """The fencing token: the create_revision of the candidate key, once it stands."""
        return self.session.own.create_revision

    async def stand(self) -> None:
        """Take a lease and join the queue; etcd's troubles go to the listener, and it goes on trying.

        Raises:
            CandidacyOverError: The lease ended first.
            EtcdRegressedError: etcd went back in time.
        """
        await self.session.open()
        key = candidate_key(self._context.election_key, self.session.lease_id)
        self.session.own = LeasedKey(key, self._context.identity.encode(), 0, self.session.lease_id)
        backoff = Backoff(self._retry, random.uniform)
        while not await self._join():  # noqa: ASYNC110 - etcd is asked again; it sends no event
            await anyio.sleep(backoff.next())
        self._listener.etcd_answered()
        self.session.keep_alive()
        self._tell_place()

    async def wait_turn(self) -> None:
        """Return when this candidate leads: its key is the oldest of the queue, and its lease is trusted.

        Raises:
            CandidacyOverError: Our key or lease was lost.
            EtcdRegressedError: etcd went back in time.
        """
        while not self._has_won():
            await self._step()
        self._check()

    def _has_won(self) -> bool:
        if self._place.stale or self._place.rank is not Rank.LEADER:
            return False
        if self.session.believed():
            return True
        # etcd has elected another leader since the grant. The key moves to a new lease first, which can be trusted.
        self.session.start_move()
        return False

    async def hold(self) -> NoReturn:
        """Watch over our own key while leading, until cancelled. What is lost, the session tells."""
        await anyio.lowlevel.checkpoint()  # who waits to lead goes first
        while True:
            try:
                await self._step()
            except (CandidacyOverError, EtcdRegressedError):
                # The session has told its owner, who cancels us; there is nothing left to look at.
                await anyio.sleep_forever()

    async def withdraw(self) -> None:
        """Leave the queue: revoke the lease, which deletes the key in the same commit. Takes at most ``retry``."""
        for watched in self._watched.values():
            watched.close()
        await self.session.close()
        self._listener.queued(None)

    # Joining

    async def _join(self) -> bool:
        """One try to stand in the queue; False if it failed, so far as is known."""
        if not self.session.believed():
            raise self._over(LossReason.EXPIRED)
        compare, success, failure = join(self._prefix, self.key, self.session.own.value, self.session.lease_id)
        try:
            result = await self._connection.turns.run(
                lambda: self._connection.txn(compare, success, failure, timeout=self._retry)
            )
        except LeaseNotFoundError as error:
            raise self._over(LossReason.REVOKED, error) from error
        except EtcdRegressedError:
            raise
        except EtcdLeaderError as error:
            # It may have been applied all the same, even if etcd answered with an error: only a read can tell.
            self._listener.etcd_failed(error)
            return await self._find_own()
        if not result.succeeded:
            return self._adopt(_range(result.results[0]))
        self._stands(result.header.revision)
        queue = _range(result.results[1])
        self._place = Place.joined(result.header.revision, queue.kvs, queue.count)
        return True

    async def _find_own(self) -> bool:
        try:
            own = Range(self.key)
            found = await self._connection.turns.run(lambda: self._connection.range(own, timeout=self._retry))
        except EtcdRegressedError:
            raise
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return False
        return self._adopt(found)

    def _adopt(self, found: RangeResult) -> bool:
        """Take a key that an earlier try has put. It is ours only on our lease."""
        if not found.kvs:
            return False
        kv = found.kvs[0]
        if kv.lease != self.session.lease_id:
            raise self._over(LossReason.DELETED)
        self._stands(kv.create_revision)
        self._place = Place(found.header.revision, 2, None, stale=True, touched=kv.create_revision)
        return True

    def _over(self, reason: LossReason, error: EtcdLeaderError | None = None) -> CandidacyOverError:
        """End the session. Past its deadline the reason is EXPIRED."""
        self.session.lose(reason, error)
        return CandidacyOverError(self.session.lost or reason, error)

    def _stands(self, create_revision: int) -> None:
        self.session.own = replace(self.session.own, create_revision=create_revision)

    # Waiting and holding

    async def _step(self) -> None:
        """Do what the place calls for, then wait until something changes."""
        self._check()
        if self._place.stale:
            await self._look()
            return
        # Made before anything is awaited, so that no change falls between the look and the wait.
        changed = self._changed = LightEvent()
        await self._watch()
        await changed.wait()

    def _check(self) -> None:
        if self._place.lost:
            self.session.lose(LossReason.DELETED)
        else:
            self.session.check_deadline()
        if self.session.lost is None:
            return
        if isinstance(self.session.error, EtcdRegressedError):
            raise self.session.error
        raise CandidacyOverError(self.session.lost, self.session.error)

    async def _look(self) -> None:
        """Read the newest keys of the queue up to ours: they show our predecessor and whether another key is before it."""
        newest = newest_up_to(self._prefix, self.token, limit=MOST_SHOWN)
        backoff = Backoff(self._retry, random.uniform)
        while (answer := await self._try_read(newest)) is None:
            self._check()
            await anyio.sleep(backoff.next())
            self._check()
        result, overheard = answer
        self._listener.etcd_answered()
        found = _range(result.results[0]).kvs
        self._place = self._place.after_read(self.session.own, result.header.revision, found)
        # What came in while the read was under way may be newer than what it shows.
        for message in overheard:
            self._apply(message)
        self._tell_place()
        self._check()

    async def _try_read(self, request: Range) -> tuple[TxnResult, list[WatchMessage]] | None:
        """Returns what one read shows, and what the watches brought while it was under way."""
        overheard: list[WatchMessage] = []
        self._overheard = overheard
        try:
            result = await self._connection.reads.read([request], self._retry)
        except EtcdRegressedError as error:
            self.session.lose(LossReason.REGRESSED, error)
            raise
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return None
        finally:
            self._overheard = None
        return result, overheard

    async def _watch(self) -> None:
        """Watch what our rank calls for: third or later, the predecessor and ourselves, so that one deletion wakes one
        candidate; next in line, the prefix, in which the deletion that elects us is in order with our own. The leader goes on
        with what it has: to know of its own key is all that it needs."""
        own, prefix = (self.key, b""), (self._prefix, prefix_end(self._prefix))
        wanted: tuple[tuple[bytes, bytes], ...] = (prefix,)
        if self._place.rank is Rank.LATER:
            wanted = (own, *((key, b"") for key in self._place.watched))
        elif self._place.rank is Rank.LEADER and not (prefix in self._watched and self._watched[prefix].is_open):
            wanted = (own,)
        # Never in the order of a set, which differs from process to process: a schedule must be seen again by its seed.
        for unwanted in [one for one in self._watched if one not in wanted]:
            self._watched.pop(unwanted).close()
        for key, end in wanted:
            if (key, end) not in self._watched:
                self._watched[key, end] = WatchedRange(
                    self._connection.api, key, end, sink=self._received, retry=self._retry, listener=self._listener
                )
        self.session.read_along(self._place.predecessor)
        await WatchedRange.open_all(*self._watched.values())

    def _received(self, message: WatchMessage) -> None:
        if self._overheard is not None:
            self._overheard.append(message)
        self._apply(message)
        self._tell_place()
        self._wake()

    def _apply(self, message: WatchMessage) -> None:
        if isinstance(message, WatchCreated):
            self._place = self._place.after_creation(message.revision, resumed=message.resumed)
        elif isinstance(message, WatchEvents):
            self._place = self._place.after(self.session.own, message.events)
        elif isinstance(message, WatchCanceled):
            self._place = replace(self._place, stale=True)

    def _tell_place(self) -> None:
        """Act on what the place has become, at once: a key that was deleted ends the term before any task runs."""
        if self._place.lost:
            self.session.lose(LossReason.DELETED)
            return
        self.session.may_lead(self._place.rank is not Rank.LATER)
        self._listener.queued(self._place.ahead)
        self._listener.blocked(self._place.blocker)
        if self._place.asked_to_resign:
            self._place = replace(self._place, asked_to_resign=False)
            if self._place.rank is Rank.LEADER:
                self._listener.asked_to_resign()

    # KeyOwner: what the session asks and reports

    @property
    def mod_revision(self) -> int:
        """The mod_revision of our key, as last seen."""
        return self._place.touched

    def read_with_move(self) -> Sequence[Range]:
        """Return a Range of the own key and its predecessor: without a predecessor, the move itself wins the election."""
        if self._place.rank is Rank.LEADER:
            return ()
        return [newest_up_to(self._prefix, self.token, limit=2)]

    def key_moved(self, mod_revision: int, read: Sequence[Result]) -> None:
        """Take in that the own key is on another lease."""
        first = bool(read) and len(_range(read[-1]).kvs) == 1
        self._place = self._place.own_key_moved(mod_revision, first=first)
        self._tell_place()
        self._wake()

    def key_seen(self, kv: KeyValue) -> None:
        """Take in a step-down request that a read shows before the watch delivers it."""
        if kv.mod_revision > self._place.touched:
            self._place = self._place.own_key_seen(self.session.own, kv)
            self._tell_place()

    def companion_absent(self) -> None:
        """Take in that a renewal's read found no predecessor: the watch has missed its DELETE."""
        self._place = replace(self._place, stale=True)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()


def _range(result: object) -> RangeResult:
    assert isinstance(result, RangeResult)
    return result
