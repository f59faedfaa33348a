"""A key kept on a lease, renewed until it is let go, and moved to another lease when etcd's leader changes.

Two clocks run for it. The lease is *kept* as long as etcd has it. It is *trusted* by the renewals of its own raft term alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import KeepAlive, KeyValue, Result
from .._runtime.clock import Clock
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ..model import LossReason
from .attached_keys import AttachedKeys
from .backoff import Backoff
from .connection import Connection
from .key_move import KeyMove
from .key_owner import KeyOwner
from .lease import Lease, revoke
from .lease_clock import LeaseClock, Renewal, Timing, judge_renewal, reason_of_loss, why_unconfirmed
from .leased_key import LeasedKey
from .listener import LeaseListener
from .pace import Pace

__all__ = ("Session",)

_TICK = 1.0
"""How often, at least, a watched deadline is compared with the clock: the loop's own stands still in suspend."""
_NO_SOONER = 0.05
"""Seconds after a look at a deadline in which another one shows nothing new, by the lease's own clock."""


class Session:
    """A key and the lease it is attached to. A lost session stays lost; its key and leases are never used again.

    Attributes:
        own: The key, of ``owner``.
        timing: The durations of the lease.
        listener: Receives what happens.
        trusted: Until when the lease may lead.
        lost: Why it must not be believed any more.
        error: The error that came with that, if any.
        on_lost: Called once, when it is lost.
        on_moved: Called when the key is on another lease.
    """

    __slots__ = (
        "_also_read", "_attached", "_confirmed_at", "_connection", "_kept", "_last_error", "_lease", "_may_lead",
        "_move", "_on_tick", "_pace", "_readable", "_ticked_at", "clock", "error", "listener", "lost", "now",
        "on_lost", "on_moved", "own", "owner", "timing", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        timing: Timing,
        *,
        clock: Clock,
        listener: LeaseListener,
        owner: KeyOwner,
        readable: bytes,
    ) -> None:
        """Ask for nothing yet. ``readable`` is a key that the user may read, whether it exists or not."""
        self._connection = connection
        self.timing = timing
        self.listener = listener
        self.owner = owner
        self._readable = readable
        self.clock = clock
        self.now = clock.now
        self.own = LeasedKey(b"", b"", 0, 0)
        self.lost: LossReason | None = None
        self.error: EtcdLeaderError | None = None
        self.on_lost: Callable[[], None] = _nothing
        self.on_moved: Callable[[], None] = _nothing
        self._on_tick: Callable[[float], None] | None = None
        self._ticked_at = -math.inf
        self._lease = self._new_lease()
        self._move: KeyMove | None = None
        """Under way, from when it is decided on."""
        self.trusted = LeaseClock(-math.inf, 0, 0)
        self._kept = LeaseClock(-math.inf, 0, 0)
        self._may_lead = False
        self._also_read: bytes | None = None
        self._attached: AttachedKeys | None = None
        self._pace = Pace(timing, random.uniform)
        self._confirmed_at = -math.inf
        self._last_error: EtcdLeaderError | None = None

    # What may be believed

    @property
    def lease_id(self) -> int:
        """The lease that the key is on; 0 until a grant was tried."""
        return self._lease.lease_id

    def believed(self) -> bool:
        """Whether the lease may be believed now. From any thread."""
        return self.lost is None and self.trusted.believed(self.now())

    def lease_remaining(self) -> float:
        """Seconds until the lease's deadline, whatever else was lost."""
        return self.trusted.remaining(self.now())

    def age(self) -> float | None:
        """Seconds since the last confirmed request was sent."""
        return None if math.isinf(sent_at := self._bound.sent_at) else self.now() - sent_at

    def check_deadline(self) -> None:
        """End the session if its deadline has passed."""
        if self._bound.remaining(self.now()) <= 0:
            self.lose(LossReason.EXPIRED)

    def lose(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        """Stop believing, for ever. Past the deadline the reason is EXPIRED."""
        if self.lost is None:
            self.lost, self.error = reason_of_loss(reason, self._bound.remaining(self.now())), error
            if self.lost is LossReason.EXPIRED and (late := self._connection.renewals.late(self)) > self._tick:
                self.listener.loop_was_blocked(late)
            if self._move is not None:
                self._move.ended.set()
            self.on_lost()
            self._connection.renewals.look(self)

    @property
    def _bound(self) -> LeaseClock:
        """Ends the session: a leader is lost when it is trusted no more, a candidate when etcd may have expired its lease."""
        return self._kept if self._on_tick is None else self.trusted

    # Its life

    async def open(self) -> None:
        """Have a lease granted, trying until it is. etcd's troubles go to the listener."""
        backoff = Backoff(self.timing.retry, random.uniform)
        while not await self.granted(self._lease):  # noqa: ASYNC110 - etcd is asked again; it sends no event
            await anyio.sleep(backoff.next())
        self.trusted, self._kept = self._clock_of(self._lease), self._clock_of(self._lease)

    def _new_lease(self) -> Lease:
        return Lease(self._connection, self.now, self.move_failed)

    async def granted(self, lease: Lease) -> bool:
        """Ask for a lease once; returns whether it was granted."""
        return await lease.grant(self.timing.lease, self._readable, self.timing.retry)

    def _clock_of(self, lease: Lease) -> LeaseClock:
        return LeaseClock(lease.sent_at, lease.ttl, self.timing.margin)

    def keep_alive(self) -> None:
        """Renew the lease from now on. Each renewal confirms that our own key is in etcd, and on this lease."""
        self._connection.renewals.add(self)

    def watch_deadline(self, on_tick: Callable[[float], None]) -> None:
        """Lead from now on, and call ``on_tick`` with the seconds left whenever the deadline moves or comes near."""
        self._on_tick = on_tick
        self._connection.renewals.watch_clock(self, self._tick)

    def read_along(self, key: bytes | None) -> None:
        """Read this key with each renewal, too. Report its absence to the owner: a watch may have missed its DELETE."""
        self._also_read = key

    def may_lead(self, may: bool) -> None:  # noqa: FBT001 - what has become of it
        """Set whether the key is the first or second of its queue. Only then does it move when etcd elects another leader."""
        if may and not self._may_lead:
            self._move_if_outdated()
        self._may_lead = may

    def drain(self) -> None:
        """Renew for at most one more ``lease`` after the work was cancelled, so that endless work does not keep the key for ever."""
        self._pace.end_at(self.now() + self.timing.lease)

    async def renew_now(self) -> None:
        """Renew, confirmed.

        Raises:
            EtcdUnavailableError: etcd did not confirm within ``retry``; the lease stands as it stood.
            EtcdRefusedError: etcd refused.
        """
        asked_at = self.now()
        self._last_error = None
        with anyio.move_on_after(self.timing.retry):
            while self.lost is None and self._confirmed_at < asked_at:
                lease_id = self.lease_id
                await self._connection.renewals.renew_now(self)
                if (move := self._move) is not None and self._confirmed_at < asked_at:
                    # etcd's leader has changed: the key moves first.
                    self.start_move()
                    await move.ended.wait()
                elif self.lease_id == lease_id:
                    break
        if self.lost is None and self._confirmed_at < asked_at:
            raise self._why_unconfirmed()

    def _why_unconfirmed(self) -> EtcdLeaderError:
        return self._last_error or EtcdUnavailableError(f"etcd confirmed no renewal within {self.timing.retry:g} s")

    async def close(self) -> None:
        """End the session and revoke its leases, which deletes the key. What etcd does not receive within ``retry`` expires."""
        self._connection.renewals.discard(self)
        # Whatever way led here, belief ends before the key can go.
        self.on_lost = _nothing
        self.lose(LossReason.STOPPED)
        leases = [self._lease]
        if self._move is not None:
            # Its transaction may be on its way: then the key may be on either lease.
            self._move.give_up()
            leases.append(self._move.lease)
        if self._attached is not None:
            self._attached.stop()
            leases += [Lease.known(self._connection, self.move_failed, one) for one in self._attached.old_leases()]
        if not self._connection.inherited:
            await revoke([lease for lease in leases if lease.lease_id], self._connection, self.timing.retry)

    # Renewable: what the connection's renewals call

    @property
    def retry(self) -> float:
        """Bound of one attempt, in seconds."""
        return self.timing.retry

    @property
    def refused(self) -> bool:
        """Whether etcd has refused the last renewal."""
        return isinstance(self._last_error, EtcdRefusedError)

    def check(self) -> float:
        """Act on a deadline that has passed and on a later raft term. Return the seconds until the next check."""
        now = self.now()
        if (remaining := self._bound.remaining(now)) <= 0:
            self.lose(LossReason.EXPIRED)
        if self._pace.is_over(now):
            if self._move is not None:
                self._move.give_up()  # the work has had one more lease to end, and has not
        elif self._may_lead:
            self._move_if_outdated()
        if self._on_tick is None:
            return max(remaining, _TICK)
        if self.lost is not None or now >= self._ticked_at + _NO_SOONER:
            self._ticked_at = now
            self._on_tick(remaining)
        return remaining if self.lost is None else self._tick

    @property
    def _tick(self) -> float:
        return min(_TICK, self.timing.margin / 2)

    def spread(self) -> None:
        """Let the next renewal be due some time before it would be, at random."""
        self._pace.spread()

    def due_in(self) -> float | None:
        """Seconds until the next renewal; None when there will be none."""
        over = self.lost is not None or self._bound.remaining(now := self.now()) <= 0
        return None if over else self._pace.due_in(self._kept.sent_at, now)

    def may_go_along(self) -> bool:
        """Whether the next renewal may come a little too early, with others."""
        due_in = self.due_in()
        return due_in is not None and self._pace.may_come_early(due_in, self.now())

    def keys(self) -> Sequence[bytes]:
        """Our key, and the one to be read along with it."""
        return (self.own.key,) if self._also_read is None else (self.own.key, self._also_read)

    def answered(
        self, sent_at: float, answer: KeepAlive, read: Sequence[KeyValue | None], *, read_term: int, known_term: int
    ) -> bool:
        """Take in an answered keep-alive, and the proposal and the read after it."""
        kv = read[0]
        if answer.lease_id != self.lease_id and kv is not None:
            return True  # the key has moved meanwhile, and what this lease shows is nothing to us any more
        ours = self.own.is_ours(kv)
        if kv is not None and ours:
            self.owner.key_seen(kv)
            if kv.lease == self.own.moving_to:
                assert self._move is not None
                self._move.succeeded(kv.mod_revision)  # the transaction was applied, and its answer is not here yet
                return True
        verdict = judge_renewal(
            ttl=answer.ttl,
            key_is_ours=ours,
            lease_term=self._connection.raft_terms.of(self._lease.term),
            read_term=read_term,
            known_term=known_term,
        )
        if verdict is Renewal.KEY_LOST:
            self.lose(LossReason.REVOKED if answer.ttl <= 0 else LossReason.DELETED)
            return True
        if verdict is Renewal.UNCONFIRMED:
            self.failed(EtcdUnavailableError(why_unconfirmed(answer.ttl, read_term, known_term)))
            return False
        now = self.now()
        remaining = self.trusted.remaining(now)
        if not self._kept.confirm(sent_at, answer.ttl, now):
            self.lose(LossReason.EXPIRED)
            return True
        if verdict is Renewal.CONFIRMED:
            if not self.trusted.confirm(sent_at, answer.ttl, now) and self._on_tick is not None:
                self.lose(LossReason.EXPIRED)
                return True
            self._confirmed_at = now
        self._renewed(now)
        if verdict is Renewal.CONFIRMED or self._on_tick is None:
            self._last_error = None
            self.listener.renewed(now - sent_at, remaining)
        if len(read) > 1 and read[1] is None:
            self.owner.companion_absent()
        return True

    def _renewed(self, now: float) -> None:
        self._pace.succeeded()
        if self._on_tick is not None:
            # At once, not at the next look: what runs until the old deadline may go on.
            self._ticked_at = now
            self._on_tick(self.trusted.remaining(now))

    def failed(self, error: EtcdLeaderError) -> None:
        """An attempt failed, which costs nothing before the deadline."""
        self._last_error = error
        self.listener.renewal_failed(error, self.lease_remaining())

    def postpone(self) -> None:
        """Wait before the next attempt."""
        self._pace.postpone(self.now())

    def unattended(self, error: EtcdLeaderError) -> None:
        """Nobody has looked after it for a while."""
        self.failed(error)
        self.lose(LossReason.EXPIRED, error)

    def regressed(self, error: EtcdRegressedError) -> None:
        """The cluster went back in time."""
        self.lose(LossReason.REGRESSED, error)

    # The move to another lease

    def start_move(self, after: float = 0.0) -> None:
        """Move the key to another lease, after ``after`` seconds."""
        if self.lost is None:
            if self._move is None:
                self._move = KeyMove(self, self._connection, self._new_lease)
            self._move.start(after)

    def _move_if_outdated(self) -> None:
        if self._move is None and self._connection.raft_terms.is_outdated(self._lease.term):
            self.start_move(self._pace.draw_move(self.lease_remaining()))

    @property
    def attached(self) -> AttachedKeys:
        """The keys of the application on the same lease."""
        if self._attached is None:
            self._attached = AttachedKeys(self._connection, self.listener, self.timing.retry)
        return self._attached

    async def settled_lease(self, timeout: float) -> int:
        """Return the lease that the key is on, after the end of a move that is on its way.

        Raises:
            EtcdUnavailableError: The move was not answered within ``timeout`` seconds.
        """
        if self._move is not None and self.own.moving_to:
            await self._move.ended.wait_for(timeout)
            if self.own.moving_to and self.lost is None:
                raise EtcdUnavailableError(f"the key moves to another lease, not answered within {timeout:g} s")
        return self.lease_id

    def move_failed(self, error: EtcdLeaderError) -> None:
        """A call for a lease or a move failed. For a leader that is as serious as a renewal that fails."""
        report = self.listener.etcd_failed if self._on_tick is None or self.lost is not None else self.failed
        report(error)

    def moved_to(self, lease: Lease, mod_revision: int, read: Sequence[Result]) -> None:
        """The key is on this lease. ``read`` is what its transaction has read, if it was that."""
        self.own, self._lease, self._move = self.own.moved(), lease, None
        now = self.now()
        self._kept = self._clock_of(lease)
        if self._on_tick is None:
            self.trusted = self._clock_of(lease)  # no term has asked it yet
        elif not self.trusted.moved(lease.sent_at, lease.ttl, now):
            self.lose(LossReason.EXPIRED)
            return
        self._confirmed_at = lease.sent_at
        self._last_error = None
        self._renewed(now)
        if self._attached is not None:
            self._attached.follow(lease.lease_id)
        self.on_moved()
        self.listener.lease_moved(lease.lease_id)
        self.owner.key_moved(mod_revision, read)
        self._connection.renewals.look(self)


_nothing: Callable[[], None] = lambda: None  # noqa: E731 - until another function is given
