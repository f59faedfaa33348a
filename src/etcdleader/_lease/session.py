"""One lease, granted once, kept alive until it is let go, and believed no longer than it may be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import KeepAlive, KeyValue, LeaseExistsError, LeaseGranted, LeaseNotFoundError
from .._runtime.clock import Clock
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ..model import LossReason
from .backoff import Backoff
from .connection import Connection
from .lease_clock import LeaseClock, Renewal, Timing, judge_renewal
from .leased_key import LeasedKey
from .listener import LeaseListener

__all__ = ("Session",)

_TICK = 1.0
"""How often, at least, a watched deadline is compared with the clock: loops sleep on clocks that stand still in
suspend."""
_NO_SOONER = 0.05
"""Seconds after a look at a deadline in which another one shows nothing new, by the lease's own clock: a renewal is looked at from
several sides."""
_EARLY = 0.1
"""By which share of ``renew`` a renewal may come too early, to go along with others."""


class Session:
    """A lease of ours. Lost once, it is lost for good; nothing of it is ever used again.

    Attributes:
        lease_id: 0 until a grant was tried.
        lost: Why it must not be believed any more.
        error: The error that came with that, if any.
        on_lost: Called once, when it is lost.
    """

    __slots__ = (
        "_also_read",
        "_backoff",
        "_clock",
        "_confirmed_at",
        "_connection",
        "_early",
        "_highest_term",
        "_last_error",
        "_listener",
        "_not_before",
        "_on_tick",
        "_own",
        "_renew_until",
        "_ticked_at",
        "_timing",
        "clock",
        "error",
        "lease_id",
        "lost",
        "now",
        "on_absent",
        "on_lost",
    )

    def __init__(
        self,
        connection: Connection,
        timing: Timing,
        *,
        clock: Clock,
        listener: LeaseListener,
    ) -> None:
        self._connection = connection
        self._timing = timing
        self._listener = listener
        self.clock = clock
        self.now = clock.now
        self.lease_id = 0
        self.lost: LossReason | None = None
        self.error: EtcdLeaderError | None = None
        self.on_lost: Callable[[], None] = _nothing
        self.on_absent: Callable[[], None] = _nothing
        self._on_tick: Callable[[float], None] | None = None
        self._ticked_at = -math.inf
        self._clock = LeaseClock(-math.inf, 0, 0)
        self._highest_term = 0
        self._own: LeasedKey | None = None
        self._also_read: bytes | None = None
        self._backoff = Backoff(timing.retry, random.uniform)
        self._not_before = -math.inf
        self._early = 0.0
        self._renew_until = math.inf
        self._confirmed_at = -math.inf
        self._last_error: EtcdLeaderError | None = None

    # What may be believed

    def believed(self) -> bool:
        """Whether the lease may be believed now. From any thread."""
        return self.lost is None and self._clock.believed(self.now())

    def lease_remaining(self) -> float:
        """Seconds until the lease's deadline, whatever else was lost."""
        return self._clock.remaining(self.now())

    def within_deadline(self) -> bool:
        """Whether the lease's deadline lies ahead, whatever else was lost. From any thread."""
        return self._clock.believed(self.now())

    def age(self) -> float | None:
        """Seconds since the last confirmed request was sent."""
        return None if math.isinf(self._clock.sent_at) else self.now() - self._clock.sent_at

    def lose(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        """Stop believing, for ever."""
        if self.lost is None:
            self.lost, self.error = reason, error
            self.on_lost()
            self._connection.renewals.look(self)

    # Its life

    async def open(self) -> None:
        """Have a lease granted, trying until it is.

        Raises:
            EtcdLeaderError: Never for etcd's troubles: those go to the listener, and it goes on.
        """
        tried = False
        while True:
            if not tried:
                # Ours, not the server's: a grant whose answer was lost can then be found and taken back.
                self.lease_id = random.SystemRandom().randrange(1, 1 << 63)
            try:
                sent_at, granted = await self._connection.turns.ask(self._grant)
            except LeaseExistsError:
                # After a lost answer it is ours, but from when is not known; before any try it is a stranger's.
                if tried:
                    await self._revoke(self._timing.retry)
                tried = False
            except EtcdLeaderError as error:
                tried = True
                self._listener.etcd_failed(error)
                await anyio.sleep(self._backoff.next())
            else:
                self._backoff.reset()
                self._clock = LeaseClock(sent_at, granted.ttl, self._timing.margin)
                self._highest_term = granted.header.raft_term
                return

    async def _grant(self) -> tuple[float, LeaseGranted]:
        """Returns when it was asked for, too."""
        sent_at = self.now()
        seconds = math.ceil(self._timing.lease)
        return sent_at, await self._connection.lease_grant(seconds, self.lease_id, timeout=self._timing.retry)

    def keep_alive(self, own: LeasedKey) -> None:
        """Renew the lease from now on. Each renewal confirms that ``own`` is in etcd, and on this lease."""
        self._own = own
        self._connection.renewals.add(self)

    def watch_deadline(self, on_tick: Callable[[float], None]) -> None:
        """Compare the clocks from now on, and call ``on_tick`` with the seconds left whenever the deadline moves or comes near."""
        self._on_tick = on_tick
        self._connection.renewals.watch_clock(self, self._tick)

    def read_along(self, key: bytes | None) -> None:
        """Read this key with each renewal, too, and call ``on_absent`` if it is gone: a watch may have missed its DELETE."""
        self._also_read = key

    def drain(self) -> None:
        """The work was cancelled: renew for at most one more lease, so that work which never ends cannot keep the key
        for ever."""
        self._renew_until = min(self._renew_until, self.now() + self._timing.lease)

    async def renew_now(self) -> None:
        """Renew, confirmed.

        Raises:
            EtcdUnavailableError: etcd did not confirm within ``retry``; the lease stands as it stood.
            EtcdRefusedError: etcd refused.
        """
        asked_at = self.now()
        self._last_error = None
        with anyio.move_on_after(self._timing.retry):
            await self._connection.renewals.renew_now(self)
        if self.lost is None and self._confirmed_at < asked_at:
            raise self._why_unconfirmed()

    def _why_unconfirmed(self) -> EtcdLeaderError:
        return self._last_error or EtcdUnavailableError(
            f"etcd did not confirm the lease within {self._timing.retry:g} s"
        )

    async def close(self) -> None:
        """Let the lease go, which deletes the key. What does not reach etcd within ``retry`` seconds ends with the lease; they
        are counted from when etcd has answered anybody else's call last, where many wait for their turn."""
        self._connection.renewals.discard(self)
        # Whatever way led here, belief ends before the key can go.
        self.on_lost = _nothing
        self.lose(LossReason.STOPPED)
        if not self.lease_id or self._connection.inherited:
            return
        begun, turns, retry = anyio.current_time(), self._connection.turns, self._timing.retry
        with anyio.CancelScope(shield=True) as scope:
            if await turns.take(retry):
                answered = False
                try:
                    scope.deadline = max(begun, turns.passed_at) + retry
                    # Half of it for each try, so that one lost answer does not leave the key in etcd.
                    await self._revoke(retry / 2)
                    answered = True
                finally:
                    turns.give_back(answered=answered)

    async def _revoke(self, timeout: float) -> None:
        backoff = Backoff(self._timing.retry, random.uniform)
        while True:
            try:
                await self._connection.lease_revoke(self.lease_id, timeout=timeout)
            except LeaseNotFoundError:
                return
            except EtcdLeaderError as error:
                self._listener.etcd_failed(error)
                await anyio.sleep(backoff.next())
            else:
                return

    # Renewable: what the connection's renewals ask and tell

    @property
    def retry(self) -> float:
        """Bound of one attempt, in seconds."""
        return self._timing.retry

    @property
    def refused(self) -> bool:
        """Whether etcd has refused the last renewal."""
        return isinstance(self._last_error, EtcdRefusedError)

    def check(self) -> float:
        """Notice a deadline that has passed; says when to look again."""
        now = self.now()
        remaining = self._clock.remaining(now)
        if remaining <= 0:
            self.lose(LossReason.EXPIRED)
        if self._on_tick is None:
            return max(remaining, _TICK)
        if self.lost is not None or now >= self._ticked_at + _NO_SOONER:
            self._ticked_at = now
            self._on_tick(remaining)
        return remaining if self.lost is None else self._tick

    @property
    def _tick(self) -> float:
        return min(_TICK, self._timing.margin / 2)

    def spread(self) -> None:
        """Let the next renewal be due after a part of ``renew``, at random: later ones keep that distance."""
        self._early = random.uniform(0.0, 0.9) * self._timing.renew  # noqa: S311 - no secret

    def due_in(self) -> float | None:
        """Seconds until the next renewal; None when there will be none."""
        now = self.now()
        if self.lost is not None or now >= self._renew_until or not self._clock.believed(now):
            return None
        return max(self._clock.sent_at + self._timing.renew - self._early, self._not_before) - now

    def may_go_along(self) -> bool:
        """Whether the next renewal may come by a tenth of ``renew`` too early. Not after one that failed."""
        due_in = self.due_in()
        return due_in is not None and due_in <= self._timing.renew * _EARLY and self._not_before <= self.now()

    def keys(self) -> Sequence[bytes]:
        """Our key, and the one to be read along with it."""
        assert self._own is not None
        return (self._own.key,) if self._also_read is None else (self._own.key, self._also_read)

    def answered(self, sent_at: float, answer: KeepAlive, read: Sequence[KeyValue | None], read_term: int) -> bool:
        """Take in an answered keep-alive and the read after it."""
        assert self._own is not None
        verdict = judge_renewal(
            ttl=answer.ttl,
            keep_alive_term=answer.header.raft_term,
            read_term=read_term,
            highest_term=self._highest_term,
            key_stands=self._own.matches(read[0]),
        )
        self._highest_term = max(self._highest_term, answer.header.raft_term, read_term)
        if verdict is Renewal.LEASE_LOST:
            self.gone()
            return True
        if verdict is Renewal.KEY_LOST:
            self.lose(LossReason.DELETED)
            return True
        if verdict is Renewal.UNCONFIRMED:
            self.failed(
                EtcdUnavailableError(
                    "etcd acknowledged a keep-alive without confirming it: "
                    f"raft term {answer.header.raft_term}, then {read_term}; etcd's leader is changing"
                )
            )
            return False
        now = self.now()
        remaining = self._clock.remaining(now)
        if not self._clock.confirm(sent_at, answer.ttl, now):
            self.lose(LossReason.EXPIRED)
            return True
        self._backoff.reset()
        self._not_before = -math.inf
        self._early = 0.0
        self._confirmed_at = now
        self._last_error = None
        self._listener.renewed(now - sent_at, remaining)
        if self._on_tick is not None:
            # At once, not at the next look: what runs until the old deadline may go on.
            self._ticked_at = now
            self._on_tick(self._clock.remaining(now))
        if len(read) > 1 and read[1] is None:
            self.on_absent()
        return True

    def gone(self) -> None:
        """There is no such lease in etcd."""
        self.lose(LossReason.REVOKED)

    def failed(self, error: EtcdLeaderError) -> None:
        """An attempt failed, which costs nothing before the deadline."""
        self._last_error = error
        self._listener.renewal_failed(error, self.lease_remaining())

    def postpone(self) -> None:
        """Wait before the next attempt."""
        self._not_before = self.now() + self._backoff.next()

    def unattended(self, error: EtcdLeaderError) -> None:
        """Nobody has looked after it for a while."""
        self.failed(error)
        self.lose(LossReason.EXPIRED, error)

    def regressed(self, error: EtcdRegressedError) -> None:
        """The cluster went back in time."""
        self.lose(LossReason.REGRESSED, error)


def _nothing() -> None:
    """Until somebody wants to know."""
