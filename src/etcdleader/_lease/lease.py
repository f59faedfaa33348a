"""One lease in etcd: its grant, its revocation, and the raft term under which it is trusted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import LeaseExistsError, LeaseNotFoundError
from .._runtime.tasks import protected
from ..errors import EtcdLeaderError
from .backoff import Backoff
from .connection import Connection
from .raft_terms import LeaseTerm

__all__ = ("Lease", "revoke")


class Lease:
    """Its id is drawn here, not by etcd: a grant whose response was lost can then be found and taken back.

    Attributes:
        lease_id: 0 until a grant was tried.
        term: The raft term that was known before the grant was sent.
        sent_at: When that grant left, on the manager's clock.
        ttl: What etcd granted, in seconds; 0 until a grant was answered.
    """

    __slots__ = ("_asked", "_connection", "_failed", "_now", "lease_id", "sent_at", "term", "ttl")

    def __init__(
        self, connection: Connection, now: Callable[[], float], failed: Callable[[EtcdLeaderError], None]
    ) -> None:
        self._connection = connection
        self._now = now
        self._failed = failed
        self._asked = False
        """Whether a grant under this id left and was not answered: it may have been applied, or be applied yet."""
        self.lease_id = 0
        self.term = LeaseTerm(0, 0)
        self.sent_at = -math.inf
        self.ttl = 0

    @classmethod
    def known(cls, connection: Connection, failed: Callable[[EtcdLeaderError], None], lease_id: int) -> Lease:
        """Return an object for a lease that was granted before, to revoke it."""
        lease = cls(connection, lambda: -math.inf, failed)
        lease.lease_id = lease_id
        return lease

    @property
    def granted(self) -> bool:
        """Whether etcd has granted it."""
        return self.ttl > 0

    async def grant(self, seconds: float, key: bytes, timeout: float) -> bool:
        """Ask for it once. Returns whether it was granted; ``failed`` received what went wrong otherwise.

        Args:
            seconds: Time to live to ask for.
            key: One that the user may read.
            timeout: Bound of each call, in seconds.
        """
        if not self._asked:
            self.lease_id = random.SystemRandom().randrange(1, 1 << 63)
        try:
            await self._connection.turns.run(lambda: self._grant(seconds, key, timeout))
        except LeaseExistsError:
            # After a lost response the lease is ours, with an unknown grant time. At the first try it is another client's.
            exists, self._asked = self._asked, False
            if exists:
                # What this does not reach ends by itself.
                with anyio.move_on_after(timeout):
                    await self.revoke(timeout, timeout)
            return False
        except EtcdLeaderError as error:
            self._failed(error)
            return False
        return True

    async def _grant(self, seconds: float, key: bytes, timeout: float) -> None:
        await self._connection.learn_raft_term(key, timeout=timeout)
        # Both before it leaves. What the response shows may be later than the term in which the grant was applied, and etcd
        # counts the time to live from some moment after this one.
        term, sent_at = self._connection.raft_terms.latest, self._now()
        exists, self._asked = self._asked, True
        try:
            granted = await self._connection.lease_grant(math.ceil(seconds), self.lease_id, timeout=timeout)
        except LeaseExistsError:
            self._asked = exists
            raise
        self._asked = False
        self.term, self.sent_at, self.ttl = term, sent_at, granted.ttl

    async def revoke(self, timeout: float, longest_pause: float) -> None:
        """Revoke it, trying until etcd has it no more, which deletes its keys. ``timeout`` bounds each try, in seconds."""
        backoff = Backoff(longest_pause, random.uniform)
        give_up_at = anyio.current_time() + timeout
        while True:
            try:
                await self._connection.lease_revoke(self.lease_id, timeout=timeout)
            except LeaseNotFoundError:
                if not self._asked or anyio.current_time() >= give_up_at:
                    return
                # The grant may be under way still, and would leave a lease without a key.
                await anyio.sleep(timeout / 8)
            except EtcdLeaderError as error:
                self._failed(error)
                await anyio.sleep(backoff.next())
            else:
                return


async def revoke(leases: Sequence[Lease], connection: Connection, retry: float) -> None:
    """Revoke leases, which deletes their keys. What does not reach etcd within ``retry`` seconds ends with its lease.

    The seconds are counted from when etcd has answered another call last, where many wait for their turn. It is shielded
    from cancellation.
    """
    if not leases:
        return
    begun, turns = anyio.current_time(), connection.turns
    with anyio.CancelScope(shield=True) as scope:
        if await turns.acquire(retry):
            answered = False
            try:
                scope.deadline = max(begun, turns.progress_at) + retry
                # Half of it for each try, so that one lost answer does not leave the key in etcd.
                if len(leases) == 1:
                    await leases[0].revoke(retry / 2, retry)
                else:
                    async with anyio.create_task_group() as group:
                        for lease in leases:
                            group.start_soon(protected(lease.revoke), retry / 2, retry)
                answered = True
            finally:
                turns.release(succeeded=answered)
