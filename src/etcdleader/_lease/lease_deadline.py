"""The deadline of a lease, and the rule for the renewals that extend it. Pure: the caller passes the time.

All times are seconds on the manager's clock (CLOCK_BOOTTIME by default). All durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Self

from ..model import LossReason


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations for keeping a lease, in seconds. They have been validated.

    Attributes:
        lease: The TTL to request.
        retry: The timeout of one attempt, and the longest pause between two.
        renew: The interval from sending one confirmed renewal to the start of the next.
        margin: The time between this process's deadline and the earliest time at which etcd may expire the lease.
    """

    lease: float
    retry: float
    renew: float
    margin: float

    @classmethod
    def of(cls, config: object) -> Self:
        """Return the durations of settings that have attributes of these names."""
        return cls(*(getattr(config, each.name) for each in fields(cls)))


class LeaseDeadline:
    """The deadline of a lease: ``sent_at + ttl - margin`` of the last request that counted.

    The deadline counts from the time when the request was sent, not from its response. The TTL starts at some moment
    between the two, so only the earlier time is safe. With a deadline counted from the response, a slow response gave one
    lease two holders.

    ``is_valid`` latches, and any thread may call it without a lock. A check may run at the same time as a confirmation.
    Only the latch, and no order of reads, ensures that the result never becomes True again after it was False.

    Attributes:
        sent_at: The time when that request was sent.
        deadline: The time from which the lease is no longer trusted.
        margin: The seconds between the deadline and the earliest time at which etcd may expire the lease.
    """

    __slots__ = ("_over", "_uncapped", "deadline", "margin", "sent_at")

    def __init__(self, sent_at: float, ttl: float, margin: float) -> None:
        self.margin = margin
        self.sent_at = sent_at
        self.deadline = sent_at + ttl - margin
        self._over = False
        self._uncapped: float | None = None
        """The deadline without the cap; None if no cap is set."""

    def is_valid(self, now: float) -> bool:
        """Return whether the lease is valid at ``now``. Once False, always False."""
        if self._over:
            return False
        if now >= self.deadline:
            self._over = True
            return False
        return True

    def remaining(self, now: float) -> float:
        """Return the seconds until the deadline; 0 or less if it has passed."""
        return min(self.deadline - now, 0.0) if self._over else self.deadline - now

    def confirm(self, sent_at: float, ttl: float, now: float) -> bool:
        """Extend the deadline by a confirmed renewal, unless a cap is set. Return False if the deadline has passed."""
        if not self.is_valid(now):
            return False
        if self._uncapped is None:
            self._extend(sent_at, ttl)
        return True

    def cap(self, deadline: float) -> None:
        """Limit the deadline to the earlier of both. Nothing extends it while the cap is set.

        The client has sent a Txn that moves the key, and has no response. So the key may be attached to either lease.
        """
        if self._uncapped is None:
            self._uncapped = self.deadline
        self.deadline = min(self.deadline, deadline)

    def uncap(self) -> None:
        """Remove the cap and restore the deadline before it.

        etcd has applied no copy of the Txn and will apply none, so the key is attached to the old lease.
        """
        if self._uncapped is not None:
            self.deadline, self._uncapped = self._uncapped, None

    def replace(self, sent_at: float, ttl: float, now: float) -> bool:
        """Set the deadline of the lease to which the key has moved. Return False if the old deadline has passed.

        Args:
            sent_at: The time when the grant of that lease was sent.
            ttl: The TTL that etcd granted, in seconds.
            now: The current time.
        """
        if not self.is_valid(now):
            return False
        self.sent_at, self.deadline, self._uncapped = sent_at, sent_at + ttl - self.margin, None
        return True

    def _extend(self, sent_at: float, ttl: float) -> None:
        self.sent_at = max(self.sent_at, sent_at)
        self.deadline = max(self.deadline, sent_at + ttl - self.margin)


class RenewalResult(Enum):
    """The result of a renewal: what its keep-alive, its proposal and its read together prove."""

    CONFIRMED = "confirmed"
    """The lease is trusted from the time when the keep-alive was sent."""
    KEPT = "kept"
    """etcd keeps the lease, but its deadline is not extended."""
    UNCONFIRMED = "unconfirmed"
    KEY_LOST = "key lost"


def check_renewal(
    *, ttl: int, key_is_ours: bool, lease_raft_term: int, read_raft_term: int, known_raft_term: int
) -> RenewalResult:
    """Decide whether a renewal counts.

    etcd responds to keep-alives without consensus. A deposed leader of etcd that has not noticed its deposition
    acknowledges leases that its successor has revoked already. And a leader of an earlier raft term may still revoke the
    leases of which it has a record. So a renewal counts only in the term under which the lease is trusted. The proposal
    between keep-alive and read has made the member apply an entry of the current term. So the read's term is not older.

    Args:
        ttl: The TTL in the response to the keep-alive. 0 or less means that the lease does not exist. But a former leader
            of etcd responds with 0 for a lease of which it has no record, so only the read decides.
        key_is_ours: True if the read showed the key with its create_revision, on this lease or on the one to which it
            moves.
        lease_raft_term: The raft term under which the lease is trusted; 0 if there is none.
        read_raft_term: The raft_term of the linearizable read, which was sent after a response to the proposal. 0 if the member
            reports none, or if another member has responded to the proposal.
        known_raft_term: The highest raft_term known before the proposal was sent.
    """
    if not key_is_ours:
        return RenewalResult.KEY_LOST
    if ttl <= 0 or read_raft_term == 0 or read_raft_term < known_raft_term:
        return RenewalResult.UNCONFIRMED
    return RenewalResult.CONFIRMED if read_raft_term == lease_raft_term else RenewalResult.KEPT


def loss_reason_at(seen: LossReason, remaining: float) -> LossReason:
    """Return the reason of a loss, from the reason ``seen`` and the seconds ``remaining`` until the deadline.

    Past the deadline the reason is EXPIRED, except for FAILED and REGRESSED. etcd deletes the key of an expired lease. A
    process whose event loop was blocked receives this deletion first, although no other client has deleted the key.
    Likewise, a process that stops or resigns past the deadline has lost its lease before.
    """
    ends_by_itself = seen not in {LossReason.FAILED, LossReason.REGRESSED}
    return LossReason.EXPIRED if ends_by_itself and remaining <= 0 else seen


def describe_unconfirmed(ttl: int, read_raft_term: int, known_raft_term: int) -> str:
    """Describe why a renewal is ``UNCONFIRMED``."""
    if ttl <= 0:
        return "etcd responded to a keep-alive with TTL 0, but the lease's key still exists"
    if not read_raft_term:
        return "a keep-alive was not confirmed by a single etcd member that reported its raft term"
    return f"a keep-alive was confirmed in raft term {read_raft_term}, which is below the known raft term {known_raft_term}"
