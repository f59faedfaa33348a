"""One lease in etcd: its grant, its revocation, and the raft term under which the client trusts it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import LeaseExistsError, LeaseNotFoundError
from .._runtime.tasks import ProtectedTaskGroup
from ..errors import EtcdLeaderError
from .backoff import Backoff
from .raft_terms import RaftTermAtGrant
from .shared_connection import SharedConnection


class Lease:
    """A lease whose id the client draws at random. So it can revoke the lease if the response to the grant is lost.

    Attributes:
        lease_id: The id of the lease; 0 before the first attempt to grant it.
        term: The raft term that was known before the grant was sent.
        sent_at: The time when the grant was sent, in seconds on the manager's clock.
        ttl: The TTL that etcd granted, in seconds; 0 before a successful response.
    """

    __slots__ = ("_asked", "_connection", "_failed", "_now", "lease_id", "raft_term_at_grant", "sent_at", "ttl")

    def __init__(
        self, connection: SharedConnection, now: Callable[[], float], failed: Callable[[EtcdLeaderError], None]
    ) -> None:
        self._connection = connection
        self._now = now
        self._failed = failed
        self._asked = False
        """True if a grant with this id was sent and has no response. etcd may have applied it, or may still apply it."""
        self.lease_id = 0
        self.raft_term_at_grant = RaftTermAtGrant(0, 0)
        self.sent_at = -math.inf
        self.ttl = 0

    @classmethod
    def known(cls, connection: SharedConnection, failed: Callable[[EtcdLeaderError], None], lease_id: int) -> Lease:
        """Return a handle to an existing lease, to revoke it."""
        lease = cls(connection, lambda: -math.inf, failed)
        lease.lease_id = lease_id
        return lease

    @property
    def granted(self) -> bool:
        """True if etcd has granted the lease."""
        return self.ttl > 0

    async def grant(self, seconds: float, key: bytes, timeout: float) -> bool:
        """Request the grant once. Return whether etcd has granted the lease. An error goes to ``failed``.

        Args:
            seconds: The TTL to request.
            key: A key that the user may read.
            timeout: The timeout of each call, in seconds.
        """
        if not self._asked:
            self.lease_id = random.SystemRandom().randrange(1, 1 << 63)
        try:
            await self._connection.call_limiter.run(lambda: self._grant(seconds, key, timeout))
        except LeaseExistsError:
            # After a lost response, the lease is ours, with an unknown grant time. At the first attempt, it is another
            # client's.
            exists, self._asked = self._asked, False
            if exists:
                # If the revocation does not reach etcd, the lease expires.
                with anyio.move_on_after(timeout):
                    await self.revoke(timeout, timeout)
            return False
        except EtcdLeaderError as error:
            self._failed(error)
            return False
        return True

    async def _grant(self, seconds: float, key: bytes, timeout: float) -> None:
        await self._connection.learn_raft_term(key, timeout=timeout)
        # Read both before the grant is sent. The term in the response may be later than the one in which etcd applied the
        # grant. And etcd counts the TTL from some moment after this one.
        term, sent_at = self._connection.raft_terms.latest, self._now()
        exists, self._asked = self._asked, True
        try:
            granted = await self._connection.lease_grant(math.ceil(seconds), self.lease_id, timeout=timeout)
        except LeaseExistsError:
            self._asked = exists
            raise
        self._asked = False
        self.raft_term_at_grant, self.sent_at, self.ttl = term, sent_at, granted.ttl

    async def revoke(self, timeout: float, longest_pause: float) -> None:
        """Revoke the lease, which deletes its keys. Retry until etcd no longer has it.

        Args:
            timeout: The timeout of each attempt, in seconds.
            longest_pause: The longest pause between two attempts, in seconds.
        """
        backoff = Backoff(longest_pause, self._connection.uniform)
        give_up_at = anyio.current_time() + timeout
        while True:
            try:
                await self._connection.lease_revoke(self.lease_id, timeout=timeout)
            except LeaseNotFoundError:
                if not self._asked or anyio.current_time() >= give_up_at:
                    return
                # etcd may still apply the grant, which would leave a lease without a key.
                await anyio.sleep(timeout / 8)
            except EtcdLeaderError as error:
                self._failed(error)
                await anyio.sleep(backoff.next())
            else:
                return


async def revoke(leases: Sequence[Lease], connection: SharedConnection, retry: float) -> None:
    """Revoke leases, which deletes their keys. A lease expires if etcd receives no revocation within ``retry`` seconds.

    If many calls wait for a slot of the limiter, the seconds count from the last success of another call. The function is
    shielded from cancellation.
    """
    if not leases:
        return
    begun, limiter = anyio.current_time(), connection.call_limiter
    with anyio.CancelScope(shield=True) as scope:
        if await limiter.acquire(retry):
            answered = False
            try:
                scope.deadline = max(begun, limiter.progress_at) + retry
                # Half of the time for each attempt, so that one lost response does not leave the key in etcd.
                if len(leases) == 1:
                    await leases[0].revoke(retry / 2, retry)
                else:
                    async with ProtectedTaskGroup() as group:
                        for lease in leases:
                            group.start_soon(lease.revoke, retry / 2, retry)
                answered = True
            finally:
                limiter.release(succeeded=answered)
