"""The move of one key to another lease, because etcd has elected another leader.

etcd grants a new lease. Then one Txn puts the same value on that lease. Each step may be lost, delayed or repeated:

- Until a response to the Txn is received, the key may be on either lease. So the earlier of both deadlines applies.
- Without a response, the same Txn with the same lease is sent again. A read could not settle the outcome, because etcd
  may apply the first copy after the read. A third lease could leave the key on a lease that the client does not expect.
- Neither lease is revoked meanwhile. Afterwards, the old lease is left to expire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from .._etcd.api import Compare, Put, Range, Result, Txn, TxnResult
from .._runtime.events import Event
from ..errors import EtcdLeaderError, EtcdRegressedError
from ..model import LossReason
from .backoff import Backoff
from .key_owner import KeySession, read_own_key
from .lease import Lease
from .lease_deadline import LeaseDeadline
from .shared_connection import SharedConnection


class MovingSession(KeySession, Protocol):
    """The part of a session that a move uses."""

    trusted_deadline: LeaseDeadline

    async def request_grant(self, lease: Lease) -> bool:
        """Request a grant of this lease once. Return whether etcd has granted it."""
        ...

    def on_move_error(self, error: EtcdLeaderError) -> None:
        """Receive the error of a failed call."""

    def on_internal_error(self, error: EtcdLeaderError) -> None:
        """End the session, because the client's own code has failed."""

    def on_moved_to(self, lease: Lease, mod_revision: int, read: Sequence[Result]) -> None:
        """Record that the key is on this lease now."""


class KeyMove:
    """One move. It begins at its creation, and ends when the key has moved or the session has ended.

    Attributes:
        lease: The lease to which the key moves.
        ended: Set when the move has ended.
    """

    __slots__ = ("_backoff", "_connection", "_new_lease", "_session", "ended", "lease")

    def __init__(self, session: MovingSession, connection: SharedConnection, new_lease: Callable[[], Lease]) -> None:
        self._session = session
        self._connection = connection
        self._new_lease = new_lease
        self._backoff = Backoff(session.timing.retry, connection.uniform)
        self.lease = new_lease()
        self.ended = Event()

    def start(self, after: float) -> None:
        """Schedule the next attempt after ``after`` seconds."""
        self._connection.mover.schedule(self, after)

    def end(self) -> None:
        """Send no further request. etcd may still apply a request in flight."""
        self._connection.mover.discard(self)
        self.ended.set()

    # For the connection's mover

    @property
    def retry(self) -> float:
        """The timeout of one call, in seconds."""
        return self._session.timing.retry

    @property
    def is_over(self) -> bool:
        """True if the move must send no further request."""
        return self._session.loss_reason is not None or self.ended.is_set()

    @property
    def is_granted(self) -> bool:
        """True if etcd has granted the new lease."""
        return self.lease.granted

    async def grant(self) -> bool:
        """Request a grant of the new lease. Return False if this attempt failed."""
        lease = self.lease
        if not await self._session.request_grant(lease):
            return False
        if self._session.loss_reason is not None:
            # The session ended during the grant, and no Txn has attached the key to this lease.
            with anyio.move_on_after(self.retry):
                await lease.revoke(self.retry, self.retry)
            return False
        return True

    def txn(self) -> Txn:
        """Return the Txn that moves the key, and cap the deadline, because the caller sends the Txn now."""
        session, lease = self._session, self.lease
        own = session.own
        session.own = own.moving(lease.lease_id)
        session.trusted_deadline.cap(lease.sent_at + lease.ttl - session.timing.margin)
        return Txn(
            [
                Compare(own.key, "create", own.create_revision),
                # Without this compare, the move would overwrite a step-down request that etcd applied just before.
                Compare(own.key, "mod", session.owner.mod_revision),
                Compare(own.key, "lease", own.lease_id),
            ],
            [Put(own.key, own.value, lease.lease_id), *session.owner.read_with_move()],
            [Range(own.key)],
        )

    def on_response(self, result: TxnResult) -> None:
        """Process the response to the Txn or to a copy of it."""
        session = self._session
        if self.is_over:
            return
        if result.succeeded:
            self.succeeded(result.header.revision, result.results[1:])
            return
        kv = read_own_key(session, result)
        if kv is None:
            return
        if kv.lease == session.own.moving_to:
            self.succeeded(kv.mod_revision)
        else:
            self.start_later()

    def succeeded(self, mod_revision: int, read: Sequence[Result] = ()) -> None:
        """Complete the move: the key is on the new lease."""
        self._session.on_moved_to(self.lease, mod_revision, read)
        self.end()

    def on_lease_not_found(self) -> None:
        """Replace the new lease, which no longer exists. etcd cannot apply any copy of the Txn."""
        session = self._session
        if not self.is_over:
            session.own = session.own.moving(0)
            session.trusted_deadline.uncap()
            self.lease = self._new_lease()
            self.start_later()

    def on_error(self, error: EtcdLeaderError) -> None:
        """Schedule the same Txn again. etcd may have applied it, or may still apply it."""
        if not self.is_over:
            self._session.on_move_error(error)
            self.start_later()

    def on_regression(self, error: EtcdRegressedError) -> None:
        """End the session, because the cluster's revision went back."""
        self._session.invalidate(LossReason.REGRESSED, error)

    def on_internal_error(self, error: EtcdLeaderError) -> None:
        """End the session, because the client's own code has failed during the move."""
        self._session.on_internal_error(error)

    def start_later(self) -> None:
        """Schedule the next attempt after a pause."""
        if not self.is_over:
            self.start(self._backoff.next())
