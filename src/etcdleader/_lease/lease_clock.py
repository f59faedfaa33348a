"""How long a lease may be believed, and which renewal may extend that. Pure: told the time, never asking for it.

All moments are seconds on the manager's clock (CLOCK_BOOTTIME by default); all durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ("LeaseClock", "Renewal", "Timing", "judge_renewal")


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


class LeaseClock:
    """Until when one lease may be believed: ``sent_at + ttl - margin`` of the last confirmed request.

    ``sent_at`` is when the request left, never when its answer came: etcd counts from some moment between the two, so
    only the earlier one is safe (counted from the answer, a slow answer gave one lease two holders).

    ``believed`` latches. It is called from any thread without a lock; the latch, not an order of reads, is what makes
    "once False, never True again" hold when a confirmation and a question cross.
    """

    __slots__ = ("_over", "deadline", "margin", "sent_at")

    def __init__(self, sent_at: float, ttl: float, margin: float) -> None:
        self.margin = margin
        self.sent_at = sent_at
        self.deadline = sent_at + ttl - margin
        self._over = False

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
        """Take in a confirmed renewal. Past the deadline it extends nothing, and the answer is False."""
        if not self.believed(now):
            return False
        self.sent_at = max(self.sent_at, sent_at)
        self.deadline = max(self.deadline, sent_at + ttl - self.margin)
        return True


class Renewal(Enum):
    """What a keep-alive and the read after it amount to."""

    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    KEY_LOST = "key lost"
    LEASE_LOST = "lease lost"


def judge_renewal(*, ttl: int, keep_alive_term: int, read_term: int, highest_term: int, key_stands: bool) -> Renewal:
    """Whether a renewal counts.

    etcd answers keep-alives without consensus: a leader that was deposed but has not noticed acknowledges leases that
    its successor has revoked already. A linearizable read after the acknowledgement needs the true leader, and equal
    raft terms on both mean that the renewing one *was* the true leader, with a quorum, after it renewed.

    Args:
        ttl: From the keep-alive's answer; 0 or less means that the lease is gone.
        keep_alive_term: raft_term of the keep-alive's answer.
        read_term: raft_term of the linearizable read that was sent after that answer came.
        highest_term: Highest raft_term seen since the lease was granted; a restored cluster may show a lower one.
        key_stands: Whether the read showed our key with our create_revision, on our lease.
    """
    if ttl <= 0:
        return Renewal.LEASE_LOST
    if not key_stands:
        return Renewal.KEY_LOST
    if keep_alive_term != read_term or read_term < highest_term:
        return Renewal.UNCONFIRMED
    return Renewal.CONFIRMED
