"""etcd's leases. Pure: told the time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(slots=True)
class _Lease:
    ttl: int
    expires_at: float


class Lessor:
    """The leases as one etcd leader knows them.

    An expired lease exists until its revocation has been committed, but it is not renewed any more.
    """

    def __init__(self, minimum_ttl: int, election_timeout: float) -> None:
        self._minimum_ttl = minimum_ttl
        self._election_timeout = election_timeout
        self._leases: dict[int, _Lease] = {}

    def copy(self) -> Lessor:
        """The same leases, to go on from apart: as a deposed leader does, or a snapshot."""
        copy = Lessor(self._minimum_ttl, self._election_timeout)
        copy._leases = {lease_id: replace(lease) for lease_id, lease in self._leases.items()}
        return copy

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def ids(self) -> list[int]:
        """All leases, expired or not, until they are revoked."""
        return list(self._leases)

    def grant(self, lease_id: int, ttl: int, now: float) -> int:
        """Make a lease, which must not exist; returns the time to live that it really got."""
        granted = max(ttl, self._minimum_ttl)
        self._leases[lease_id] = _Lease(granted, now + granted)
        return granted

    def revoke(self, lease_id: int) -> None:
        """Forget a lease, which must exist."""
        del self._leases[lease_id]

    def ttl(self, lease_id: int) -> int:
        """What was granted."""
        return self._leases[lease_id].ttl

    def remaining(self, lease_id: int, now: float) -> float:
        """Seconds until it expires; 0 or less when it has."""
        return self._leases[lease_id].expires_at - now

    def renew(self, lease_id: int, now: float) -> int:
        """Start its time to live anew; it must not have expired. Returns that time."""
        lease = self._leases[lease_id]
        lease.expires_at = now + lease.ttl
        return lease.ttl

    def promote(self, now: float) -> None:
        """A new etcd leader knows nothing of renewals: it gives every lease its full time, and one election timeout."""
        for lease in self._leases.values():
            lease.expires_at = now + self._election_timeout + lease.ttl

    def next_expiry(self) -> float:
        """When the first lease expires; infinite without any."""
        return min((lease.expires_at for lease in self._leases.values()), default=math.inf)

    def expired(self, now: float) -> list[int]:
        """The leases to revoke, the one that expired first at the front."""
        expired = [(lease.expires_at, lease_id) for lease_id, lease in self._leases.items() if lease.expires_at <= now]
        return [lease_id for _, lease_id in sorted(expired)]
