"""etcd's leases. Pure: the caller passes the time."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass


@dataclass(slots=True)
class _Lease:
    ttl: int
    expires_at: float


class Lessor:
    """The leases of one etcd leader.

    An expired lease exists until its revocation has been committed, but it cannot be renewed.
    """

    def __init__(self, minimum_ttl: int, election_timeout: float) -> None:
        self._minimum_ttl = minimum_ttl
        self._election_timeout = election_timeout
        self._leases: dict[int, _Lease] = {}

    def copy(self) -> Lessor:
        """Return an independent copy of the leases, such as for a deposed leader or a snapshot."""
        return deepcopy(self)

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def ids(self) -> list[int]:
        """Return the ids of all leases, including expired ones that are not revoked yet."""
        return list(self._leases)

    def grant(self, lease_id: int, ttl: int, now: float) -> int:
        """Add a lease, which must not exist, and return the TTL that was granted."""
        granted = max(ttl, self._minimum_ttl)
        self._leases[lease_id] = _Lease(granted, now + granted)
        return granted

    def revoke(self, lease_id: int) -> None:
        """Remove a lease, which must exist."""
        del self._leases[lease_id]

    def ttl(self, lease_id: int) -> int:
        """Return the granted TTL."""
        return self._leases[lease_id].ttl

    def remaining(self, lease_id: int, now: float) -> float:
        """Return the seconds until a lease expires; 0 or less if it has expired."""
        return self._leases[lease_id].expires_at - now

    def renew(self, lease_id: int, now: float) -> int:
        """Renew a lease, which must not have expired, and return its TTL."""
        lease = self._leases[lease_id]
        lease.expires_at = now + lease.ttl
        return lease.ttl

    def promote(self, now: float) -> None:
        """Extend all leases, as a new etcd leader does: each gets its full TTL and one election timeout.

        A new leader has no record of its predecessor's renewals.
        """
        for lease in self._leases.values():
            lease.expires_at = now + self._election_timeout + lease.ttl

    def next_expiry(self) -> float:
        """Return the time at which the first lease expires; infinity if there is no lease."""
        return min((lease.expires_at for lease in self._leases.values()), default=math.inf)

    def expired(self, now: float) -> list[int]:
        """Return the expired leases, in the order in which they expired."""
        expired = [(lease.expires_at, lease_id) for lease_id, lease in self._leases.items() if lease.expires_at <= now]
        return [lease_id for _, lease_id in sorted(expired)]
