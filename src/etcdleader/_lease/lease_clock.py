"""How long a lease may be believed, and which renewal may extend that. Pure: the caller passes the time.

All moments are seconds on the manager's clock (CLOCK_BOOTTIME by default); all durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Self

from ..model import LossReason

__all__ = ("LeaseClock", "Renewal", "Timing", "judge_renewal", "reason_of_loss", "why_unconfirmed")


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations by which a lease is kept, in seconds. They have been validated.

    Attributes:
        lease: Time to live to ask for.
        retry: Bound of one attempt, and the longest pause between two.
        renew: From the sending of one confirmed renewal to the start of the next.
        margin: How long before etcd may expire the lease this process stops relying on it.
    """

    lease: float
    retry: float
    renew: float
    margin: float

    @classmethod
    def of(cls, config: object) -> Self:
        """Return the durations of settings that have attributes of these names."""
        return cls(*(getattr(config, each.name) for each in fields(cls)))


class LeaseClock:
    """Until when a lease is trusted: ``sent_at + ttl - margin`` of the last request that counted.

    ``sent_at`` is when the request left, never when its answer came: etcd counts from some moment between the two, so
    only the earlier one is safe (counted from the answer, a slow answer gave one lease two holders).

    ``believed`` latches. It is called from any thread without a lock; the latch, not an order of reads, is what makes
    "once False, never True again" hold when a confirmation and a question cross.

    Attributes:
        sent_at: When the request left.
        deadline: The moment from which the lease is trusted no more.
        margin: Seconds before etcd may expire the lease.
    """

    __slots__ = ("_over", "_uncapped", "deadline", "margin", "sent_at")

    def __init__(self, sent_at: float, ttl: float, margin: float) -> None:
        self.margin = margin
        self.sent_at = sent_at
        self.deadline = sent_at + ttl - margin
        self._over = False
        self._uncapped: float | None = None
        """The deadline without the cap, while there is one."""

    def believed(self, now: float) -> bool:
        """Whether the lease may still be believed at ``now``."""
        if self._over:
            return False
        if now >= self.deadline:
            self._over = True
            return False
        return True

    def remaining(self, now: float) -> float:
        """Seconds until the deadline; 0 or less when it is over."""
        return min(self.deadline - now, 0.0) if self._over else self.deadline - now

    def confirm(self, sent_at: float, ttl: float, now: float) -> bool:
        """Take in a confirmed renewal. Past the deadline, or under a cap, it extends nothing. False: it is past."""
        if not self.believed(now):
            return False
        if self._uncapped is None:
            self._extend(sent_at, ttl)
        return True

    def cap(self, deadline: float) -> None:
        """Set the earlier one of both deadlines. Nothing extends it while the cap is set.

        The client has sent a Txn that moves the key, and has no response: the key may be attached to either lease.
        """
        if self._uncapped is None:
            self._uncapped = self.deadline
        self.deadline = min(self.deadline, deadline)

    def uncap(self) -> None:
        """Lift the cap: no copy of the Txn was or will be applied, so the key is attached to the old lease."""
        if self._uncapped is not None:
            self.deadline, self._uncapped = self._uncapped, None

    def moved(self, sent_at: float, ttl: float, now: float) -> bool:
        """Trust the lease that the key has moved to, granted by a request sent at ``sent_at``. Return False past the deadline."""
        if not self.believed(now):
            return False
        self.sent_at, self.deadline, self._uncapped = sent_at, sent_at + ttl - self.margin, None
        return True

    def _extend(self, sent_at: float, ttl: float) -> None:
        self.sent_at = max(self.sent_at, sent_at)
        self.deadline = max(self.deadline, sent_at + ttl - self.margin)


class Renewal(Enum):
    """What a keep-alive, the proposal after it and the read after that amount to."""

    CONFIRMED = "confirmed"
    """The lease is trusted from the sending of the keep-alive."""
    KEPT = "kept"
    """etcd keeps the lease; it is trusted no longer than before."""
    UNCONFIRMED = "unconfirmed"
    KEY_LOST = "key lost"


def judge_renewal(*, ttl: int, key_is_ours: bool, lease_term: int, read_term: int, known_term: int) -> Renewal:
    """Whether a renewal counts.

    etcd answers keep-alives without consensus: a leader that was deposed but has not noticed acknowledges leases that
    its successor has revoked already. And a leader of an earlier term may still revoke what it remembers. So a renewal
    counts only in the term under which the lease is trusted. The proposal between keep-alive and read has made the member
    apply an entry of the term in force, so that the read's term is no older one.

    Args:
        ttl: From the keep-alive's response. 0 or less means that the lease does not exist. A former leader of etcd responds
            with 0 for a lease that it does not know, so only the read decides.
        key_is_ours: Whether the read showed the key with its create_revision, attached to this lease or to the one it moves to.
        lease_term: Under which the lease is trusted; 0 if it is trusted under none.
        read_term: raft_term of the linearizable read, sent after an answered proposal to the same member; 0 if that
            member reports none, or if another one answered.
        known_term: Highest raft_term known before the proposal was sent.
    """
    if not key_is_ours:
        return Renewal.KEY_LOST
    if ttl <= 0 or read_term == 0 or read_term < known_term:
        return Renewal.UNCONFIRMED
    return Renewal.CONFIRMED if read_term == lease_term else Renewal.KEPT


def reason_of_loss(seen: LossReason, remaining: float) -> LossReason:
    """Return why a lease was lost that has ``remaining`` seconds left, when ``seen`` shows that it was.

    etcd deletes the key of a lease that has run out. A process whose event loop was blocked for so long receives that first, and
    nobody has intruded. Likewise, who stops or resigns past the deadline has lost before.
    """
    ends_by_itself = seen not in {LossReason.FAILED, LossReason.REGRESSED}
    return LossReason.EXPIRED if ends_by_itself and remaining <= 0 else seen


def why_unconfirmed(ttl: int, read_term: int, known_term: int) -> str:
    """Return why a renewal is ``UNCONFIRMED``."""
    if ttl <= 0:
        return "etcd responded to a keep-alive with TTL 0, but the lease's key still exists"
    if not read_term:
        return "a keep-alive was not confirmed by one member that knows etcd's raft term"
    return f"a keep-alive was confirmed in raft term {read_term}, though etcd has been in {known_term}"
