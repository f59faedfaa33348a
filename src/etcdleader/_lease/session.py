"""A key on a lease, which is renewed until the session ends. The key moves to another lease when etcd's leader changes.

A lease has two deadlines. A renewal in any raft term extends *kept*. Only one in the lease's own term extends *trusted*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import KeepAlive, Result
from .._runtime.clock import Clock
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ..model import LossReason
from .attached_keys import AttachedKeys
from .backoff import Backoff
from .key_move import KeyMove
from .key_owner import KeyOwner
from .lease import Lease, revoke
from .lease_deadline import LeaseDeadline, RenewalResult, Timing, check_renewal, describe_unconfirmed, loss_reason_at
from .lease_listener import LeaseListener
from .leased_key import LeasedKey
from .renewal_round import KeysRead
from .renewal_schedule import RenewalSchedule
from .shared_connection import SharedConnection

_TICK_SECONDS = 1.0
"""The longest time in seconds between two checks of a watched deadline. The loop's own clock stops during suspend."""
_CHECK_AGAIN_SECONDS = 0.05
"""Seconds after a check of the deadline within which another check is skipped, on the lease's clock."""


class Session:
    """A key and the lease it is attached to. A lost session stays lost; its key and leases are never used again.

    Attributes:
        own: The key on the lease, which belongs to ``owner``.
        timing: The durations of the lease.
        listener: Receives the session's reports.
        trusted_deadline: The deadline until which the session may lead.
        loss_reason: The reason why the session is lost; None if it is not lost.
        error: The error that caused the loss, if any.
        on_lost: Called once, when the session is lost.
        on_moved: Called when the key is on another lease.
    """

    __slots__ = (
        "_also_read", "_attached", "_confirmed_at", "_connection", "_kept_deadline", "_last_error", "_lease",
        "_move", "_near_front", "_on_tick", "_readable", "_schedule", "_ticked_at", "clock", "error",
        "listener", "loss_reason", "now", "on_lost", "on_moved", "own", "owner", "timing", "trusted_deadline",
    )  # fmt: skip

    def __init__(
        self, connection: SharedConnection, timing: Timing,
        *, clock: Clock, listener: LeaseListener, owner: KeyOwner, readable: bytes,
    ) -> None:  # fmt: skip
        """Send no request yet. ``readable`` is a key that the user may read, even if it does not exist."""
        self._connection = connection
        self.timing = timing
        self.listener = listener
        self.owner = owner
        self._readable = readable
        self.clock = clock
        self.now = clock.now
        self.own = LeasedKey(b"", b"", 0, 0)
        self.loss_reason: LossReason | None = None
        self.error: EtcdLeaderError | None = None
        self.on_lost: Callable[[], None] = _nothing
        self.on_moved: Callable[[], None] = _nothing
        self._on_tick: Callable[[float], None] | None = None
        self._ticked_at = -math.inf
        self._lease = self._new_lease()
        self._move: KeyMove | None = None
        """The scheduled or running move; None if there is none."""
        self.trusted_deadline = LeaseDeadline(-math.inf, 0, 0)
        self._kept_deadline = LeaseDeadline(-math.inf, 0, 0)
        self._near_front = False
        self._also_read: bytes | None = None
        self._attached: AttachedKeys | None = None
        self._schedule = RenewalSchedule(timing, self._connection.uniform)
        self._confirmed_at = -math.inf
        self._last_error: EtcdLeaderError | None = None

    # Validity

    @property
    def lease_id(self) -> int:
        """The lease that the key is on; 0 before the first attempt to grant one."""
        return self._lease.lease_id

    def is_valid(self) -> bool:
        """Return whether the session is valid now. Any thread may call this."""
        return self.loss_reason is None and self.trusted_deadline.is_valid(self.now())

    def lease_remaining(self) -> float:
        """Return the seconds until the deadline of the lease, even if the session was lost for another reason."""
        return self.trusted_deadline.remaining(self.now())

    def age(self) -> float | None:
        """Return the seconds since the last confirmed request was sent; None if there is none."""
        return None if math.isinf(sent_at := self._session_deadline.sent_at) else self.now() - sent_at

    def check_expiry(self) -> None:
        """End the session if its deadline has passed."""
        if self._session_deadline.remaining(self.now()) <= 0:
            self.invalidate(LossReason.EXPIRED)

    def invalidate(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        """Mark the session as lost, permanently. Past the deadline, the reason is EXPIRED. No-op if it is lost already."""
        if self.loss_reason is None:
            self.loss_reason, self.error = loss_reason_at(reason, self._session_deadline.remaining(self.now())), error
            if (
                self.loss_reason is LossReason.EXPIRED
                and (late := self._connection.renewer.blocked_for(self)) > self._tick
            ):
                self.listener.loop_was_blocked(late)
            if self._move is not None:
                self._move.ended.set()
            self.on_lost()
            self._connection.renewer.check_soon(self)

    @property
    def _session_deadline(self) -> LeaseDeadline:
        """The deadline that ends the session: *trusted* for a leader, *kept* for a waiting candidate."""
        return self._kept_deadline if self._on_tick is None else self.trusted_deadline

    # Grant, renewal and release

    async def open(self) -> None:
        """Request a lease until etcd grants it. The listener receives the errors."""
        backoff = Backoff(self.timing.retry, self._connection.uniform)
        while not await self.request_grant(self._lease):  # noqa: ASYNC110 - a grant is polled: etcd sends no event
            await anyio.sleep(backoff.next())
        self.trusted_deadline, self._kept_deadline = self._deadline_of(self._lease), self._deadline_of(self._lease)

    def _new_lease(self) -> Lease:
        return Lease(self._connection, self.now, self.on_move_error)

    async def request_grant(self, lease: Lease) -> bool:
        """Request a grant of this lease once. Return whether etcd has granted it."""
        return await lease.grant(self.timing.lease, self._readable, self.timing.retry)

    def _deadline_of(self, lease: Lease) -> LeaseDeadline:
        return LeaseDeadline(lease.sent_at, lease.ttl, self.timing.margin)

    def keep_alive(self) -> None:
        """Renew the lease from now on. Each renewal confirms that our key is in etcd and on this lease."""
        self._connection.renewer.add(self)

    def start_leading(self, on_tick: Callable[[float], None]) -> None:
        """Lead from now on. Call ``on_tick`` with the remaining seconds at each change of the deadline and at each check."""
        self._on_tick = on_tick
        self._connection.renewer.watch_clock(self, self._tick)

    def also_read(self, key: bytes | None) -> None:
        """Read this key with each renewal as well, and report its absence: a watch may have missed the DELETE."""
        self._also_read = key

    def set_near_front(self, may: bool) -> None:  # noqa: FBT001 - a setter
        """Record whether the key is first or second in its queue. Only then does it move when etcd elects a leader."""
        if may and not self._near_front:
            self._move_if_outdated()
        self._near_front = may

    def limit_renewals(self) -> None:
        """Renew for at most one more ``lease``, so that work which ignores cancellation cannot hold the key forever."""
        self._schedule.end_at(self.now() + self.timing.lease)

    async def renew_now(self) -> None:
        """Renew the lease now, and wait for the confirmation.

        Raises:
            EtcdUnavailableError: etcd has not confirmed the renewal within ``retry``. The deadline is unchanged.
            EtcdRefusedError: etcd has refused the renewal.
        """
        asked_at = self.now()
        self._last_error = None
        with anyio.move_on_after(self.timing.retry):
            while self.loss_reason is None and self._confirmed_at < asked_at:
                lease_id = self.lease_id
                await self._connection.renewer.renew_now(self)
                if (move := self._move) is not None and self._confirmed_at < asked_at:
                    # etcd's leader has changed, so the key must move first.
                    self.start_move()
                    await move.ended.wait()
                elif self.lease_id == lease_id:
                    break
        if self.loss_reason is None and self._confirmed_at < asked_at:
            raise self._why_unconfirmed()

    def _why_unconfirmed(self) -> EtcdLeaderError:
        return self._last_error or EtcdUnavailableError(f"etcd confirmed no renewal within {self.timing.retry:g} s")

    async def close(self) -> None:
        """End the session and revoke its leases, which deletes the key. If that fails for ``retry``, they expire."""
        self._connection.renewer.discard(self)
        # In every case, the session becomes invalid before etcd can delete the key.
        self.on_lost = _nothing
        self.invalidate(LossReason.STOPPED)
        leases = [self._lease]
        if self._move is not None:
            # The move's Txn may be in flight, so the key may be on either lease.
            self._move.end()
            leases.append(self._move.lease)
        if self._attached is not None:
            self._attached.stop()
            leases += [Lease.known(self._connection, self.on_move_error, one) for one in self._attached.old_leases()]
        if not self._connection.is_forked:
            await revoke([lease for lease in leases if lease.lease_id], self._connection, self.timing.retry)

    # Renewable: for the connection's renewals

    @property
    def retry(self) -> float:
        """The timeout of one attempt, in seconds."""
        return self.timing.retry

    @property
    def refused(self) -> bool:
        """True if etcd has refused the last renewal."""
        return isinstance(self._last_error, EtcdRefusedError)

    def check(self) -> float:
        """Act on a deadline that has passed and on a later raft term. Return the seconds until the next check."""
        now = self.now()
        if (remaining := self._session_deadline.remaining(now)) <= 0:
            self.invalidate(LossReason.EXPIRED)
        if self._schedule.is_over(now):
            if self._move is not None:
                self._move.end()  # the work had one more ``lease`` to end, and has not ended
        elif self._near_front:
            self._move_if_outdated()
        if self._on_tick is None:
            return max(remaining, _TICK_SECONDS)
        if self.loss_reason is not None or now >= self._ticked_at + _CHECK_AGAIN_SECONDS:
            self._ticked_at = now
            self._on_tick(remaining)
        return remaining if self.loss_reason is None else self._tick

    @property
    def _tick(self) -> float:
        return min(_TICK_SECONDS, self.timing.margin / 2)

    def add_jitter(self) -> None:
        """Let the next renewal be due earlier by a random time."""
        self._schedule.add_jitter()

    def due_in(self) -> float | None:
        """Return the seconds until the next renewal; None if there will be none."""
        over = self.loss_reason is not None or self._session_deadline.remaining(now := self.now()) <= 0
        return None if over else self._schedule.due_in(self._kept_deadline.sent_at, now)

    def can_renew_early(self) -> bool:
        """Return whether the next renewal may start a little early, in one round with others."""
        due_in = self.due_in()
        return due_in is not None and self._schedule.can_come_early(due_in, self.now())

    def keys(self) -> Sequence[bytes]:
        """Return our key, and the other key to read with each renewal, if any."""
        return (self.own.key,) if self._also_read is None else (self.own.key, self._also_read)

    def on_response(
        self, sent_at: float, answer: KeepAlive, read: KeysRead, *, read_raft_term: int, known_raft_term: int
    ) -> bool:
        """Process the responses to a keep-alive and to the read after it. Return False if the lease must be renewed again."""
        kv = read[0]
        if answer.lease_id != self.lease_id and kv is not None:
            return True  # the key has moved meanwhile, so the old lease no longer matters
        ours = self.own.matches(kv, self.owner.mod_revision)
        if kv is not None and ours:
            self.owner.on_key_read(kv)
            if kv.lease == self.own.moving_to:
                assert self._move is not None
                self._move.succeeded(kv.mod_revision)  # etcd has applied the move's Txn; its response is still missing
                return True
        verdict = check_renewal(
            ttl=answer.ttl,
            key_is_ours=ours,
            lease_raft_term=self._connection.raft_terms.comparable_raft_term(self._lease.raft_term_at_grant),
            read_raft_term=read_raft_term,
            known_raft_term=known_raft_term,
        )
        if verdict is RenewalResult.KEY_LOST:
            self.invalidate(LossReason.REVOKED if answer.ttl <= 0 else LossReason.DELETED)
            return True
        if verdict is RenewalResult.UNCONFIRMED:
            self.on_error(EtcdUnavailableError(describe_unconfirmed(answer.ttl, read_raft_term, known_raft_term)))
            return False
        now = self.now()
        remaining = self.trusted_deadline.remaining(now)
        if not self._kept_deadline.confirm(sent_at, answer.ttl, now):
            self.invalidate(LossReason.EXPIRED)
            return True
        if verdict is RenewalResult.CONFIRMED:
            if not self.trusted_deadline.confirm(sent_at, answer.ttl, now) and self._on_tick is not None:
                self.invalidate(LossReason.EXPIRED)
                return True
            self._confirmed_at = now
        self._renewed(now)
        if verdict is RenewalResult.CONFIRMED or self._on_tick is None:
            self._last_error = None
            self.listener.renewed(now - sent_at, remaining)
        if len(read) > 1 and read[1] is None:
            self.owner.on_predecessor_absent()
        return True

    def _renewed(self, now: float) -> None:
        self._schedule.succeeded()
        if self._on_tick is not None:
            # Report the new deadline at once and not at the next check, so that work continues past the old deadline.
            self._ticked_at = now
            self._on_tick(self.trusted_deadline.remaining(now))

    def on_error(self, error: EtcdLeaderError) -> None:
        """Report a failed attempt. The session stays valid until its deadline."""
        self._last_error = error
        self.listener.renewal_failed(error, self.lease_remaining())

    def postpone(self) -> None:
        """Wait for the back-off before the next attempt."""
        self._schedule.postpone(self.now())

    def on_internal_error(self, error: EtcdLeaderError) -> None:
        """End the session, because the renewals have failed unexpectedly and its deadline was not checked."""
        self.on_error(error)
        self.invalidate(LossReason.EXPIRED, error)

    def on_regression(self, error: EtcdRegressedError) -> None:
        """End the session, because the cluster's revision went back."""
        self.invalidate(LossReason.REGRESSED, error)

    # The move to another lease

    def start_move(self, after: float = 0.0) -> None:
        """Start the move of the key to another lease, after ``after`` seconds."""
        if self.loss_reason is None:
            if self._move is None:
                self._move = KeyMove(self, self._connection, self._new_lease)
            self._move.start(after)

    def _move_if_outdated(self) -> None:
        if self._move is None and self._connection.raft_terms.is_outdated(self._lease.raft_term_at_grant):
            self.start_move(self._schedule.draw_move_delay(self.lease_remaining()))

    @property
    def attached(self) -> AttachedKeys:
        """The application's keys on the same lease."""
        if self._attached is None:
            self._attached = AttachedKeys(self._connection, self.listener, self.timing.retry)
        return self._attached

    async def settled_lease(self, timeout: float) -> int:
        """Return the lease that the key is on. If a move's Txn is in flight, wait for the end of the move first.

        Raises:
            EtcdUnavailableError: The move has not ended within ``timeout`` seconds.
        """
        if self._move is not None and self.own.moving_to:
            await self._move.ended.wait_for(timeout)
            if self.own.moving_to and self.loss_reason is None:
                raise EtcdUnavailableError(f"the key's move to another lease took over {timeout:g} s: try again")
        return self.lease_id

    def on_move_error(self, error: EtcdLeaderError) -> None:
        """Report a failed call for a lease or a move. For a leader, report it like a failed renewal."""
        (self.listener.etcd_failed if self._on_tick is None or self.loss_reason is not None else self.on_error)(error)

    def on_moved_to(self, lease: Lease, mod_revision: int, read: Sequence[Result]) -> None:
        """Record that the key is on this lease. ``read`` has the ranges of the move's Txn; empty without its response."""
        self.own, self._lease, self._move = self.own.on_new_lease(), lease, None
        now = self.now()
        self._kept_deadline = self._deadline_of(lease)
        if self._on_tick is None:
            self.trusted_deadline = self._deadline_of(lease)  # no term relies on the old deadline yet
        elif not self.trusted_deadline.replace(lease.sent_at, lease.ttl, now):
            self.invalidate(LossReason.EXPIRED)
            return
        self._confirmed_at = lease.sent_at
        self._last_error = None
        self._renewed(now)
        if self._attached is not None:
            self._attached.follow(lease.lease_id)
        self.on_moved()
        self.listener.lease_moved(lease.lease_id)
        self.owner.on_key_moved(mod_revision, read)
        self._connection.renewer.check_soon(self)


_nothing: Callable[[], None] = lambda: None  # noqa: E731 - a default until another function is set
