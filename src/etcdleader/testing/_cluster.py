"""The state that the members of a fake etcd share: data, leases and leader, with the loops that act on it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from .._etcd.api import Header, LeaseExistsError, LeaseNotFoundError, Operation, Put, Range, Txn, TxnResult
from ..errors import EtcdRefusedError, EtcdUnavailableError
from ._background import Background
from ._controls import Controls
from ._lessor import Lessor
from ._notification import Notification
from ._raft_leadership import Electable, RaftLeadership
from ._store import MAX_REQUEST_BYTES, MAX_TXN_OPS, Commit, Store

_EXPIRY_SECONDS = 0.5
_CATCH_UP_SECONDS = 0.1


class Replica(Electable, Protocol):
    """A member, as the cluster uses it."""

    def entry_applied(self) -> None:
        """Apply one more entry of raft's log, and adopt its term."""

    def applied(self, commit: Commit) -> None:
        """Apply a commit."""

    def start_over(self) -> None:
        """Break all connections and recover, with the cluster's data."""

    @property
    def is_behind(self) -> bool:
        """True if a watch of this member waits for the catch-up loop."""
        ...

    def catch_up(self) -> None:
        """Send unsynced watches the events that they have missed."""


class Cluster(Background):
    """The state that raft replicates.

    Attributes:
        controls: What the test sets and observes.
        leadership: The member that leads, and its term.
        unapplied_lessor: The leader's leases at the moment when it stopped applying committed entries. None while it
            applies them.
        random: The random generator of the network and the members, from the seed.
        uniform: The random numbers of the clients and their users, from the same seed. Their order does not depend on the
            network's draws.
    """

    def __init__(self, controls: Controls, lessor: Lessor, seed: int) -> None:
        super().__init__()
        self.controls = controls
        self.store = Store()
        self.lessor = lessor
        self.leadership = RaftLeadership()
        self.members: tuple[Replica, ...] = ()
        self.cluster_id = 0xC1
        self.unapplied_lessor: Lessor | None = None
        self.random = random.Random(seed)  # noqa: S311 - chance, not secrecy
        self.uniform = random.Random(seed).uniform  # noqa: S311
        self._next_expiry = math.inf
        self._expires_sooner = Notification()

    def begin(self, members: Sequence[Replica]) -> None:
        """Record the members, and make one of them the leader."""
        self.members = tuple(members)
        self.leadership.begin(self.members, self.raft_term)

    @property
    def raft_term(self) -> int:
        """The term in force. The last entry has it too, because a new leader begins with an empty entry."""
        return self.leadership.raft_term

    @property
    def has_leader(self) -> bool:
        """True while entries can be committed. Without a leader, calls wait and no lease expires."""
        return self.leadership.exists

    # Its tasks

    def start(self, group: TaskGroup) -> None:
        """Start the background tasks in this task group."""
        super().start(group)
        self.spawn(self._expire)
        self.spawn(self._catch_up)

    async def _expire(self) -> None:
        """Revoke expired leases, every half second.

        The loop skips the rounds that have nothing to revoke. So years of virtual time cost few wake-ups.
        """
        started = anyio.current_time()
        while True:
            sooner = self._expires_sooner.next()
            self._next_expiry = self.lessor.next_expiry() if self.has_leader else math.inf
            with anyio.CancelScope(deadline=_round_at(started, self._next_expiry)):
                await sooner.wait()
                continue
            for lease_id in self.lessor.expired(anyio.current_time()):
                self.revoke(lease_id)

    async def _catch_up(self) -> None:
        """Let the members serve the watches that began in the past, as etcd does every 100 ms."""
        while True:
            await self.changed.until(lambda: any(member.is_behind for member in self.members))
            await anyio.sleep(_CATCH_UP_SECONDS)
            for member in self.members:
                member.catch_up()

    # Committed changes

    def grant(self, lease_id: int, ttl: int) -> int:
        """Grant a lease and return its TTL.

        Raises:
            LeaseExistsError: A lease with this id exists.
            EtcdUnavailableError: The alarm NOSPACE is raised.
        """
        self._need_space()
        self._append_entry()
        if lease_id in self.lessor:
            raise LeaseExistsError("etcdserver: lease already exists")
        now = anyio.current_time()
        granted = self.lessor.grant(lease_id, ttl, now)
        if self.has_leader and now + granted < self._next_expiry:
            self._expires_sooner.send()
        return granted

    def revoke(self, lease_id: int, *, halfway: bool = False) -> None:
        """Revoke a lease and delete its keys, in one revision.

        Args:
            lease_id: The lease.
            halfway: Only delete its keys. The lease can still be renewed (etcd#14758).

        Raises:
            LeaseNotFoundError: There is no such lease.
        """
        self._append_entry()
        if lease_id not in self.lessor:
            raise LeaseNotFoundError("etcdserver: requested lease not found")
        if not halfway:
            self.lessor.revoke(lease_id)
        with self._committing():
            self.store.delete_keys_on(lease_id, anyio.current_time())

    def apply_no_more(self) -> None:
        """Let etcd's leader commit entries without applying them."""
        self.unapplied_lessor = self.lessor.copy()
        self.changed.send()

    def apply(self) -> None:
        """Let etcd's leader apply all committed entries."""
        self.unapplied_lessor = None
        self.changed.send()

    def txn(self, txn: Txn, header: Callable[[int], Header]) -> TxnResult:
        """Run a transaction and return its result.

        Args:
            txn: The transaction.
            header: Returns the header of a response at a revision.

        Raises:
            LeaseNotFoundError: A put names a lease that does not exist; nothing was changed.
            EtcdRefusedError: The transaction is too large, or a put with ``ignore_value`` or ``ignore_lease`` names a
                key that does not exist.
            EtcdUnavailableError: The alarm NOSPACE is raised.
        """
        if max(map(len, txn)) > MAX_TXN_OPS:
            raise EtcdRefusedError("etcdserver: too many operations in txn request")
        if puts := [one for one in _flattened(txn) if isinstance(one, Put)]:
            if sum(len(put.key) + len(put.value) for put in puts) > MAX_REQUEST_BYTES:
                raise EtcdRefusedError("etcdserver: request is too large")
            self._need_space()
        if is_proposed(txn):
            self._append_entry()
        succeeded = all(self.store.holds(one) for one in txn.compare)
        operations = txn.success if succeeded else txn.failure
        self.store.check(operations, self.lessor.__contains__)
        with self._committing():
            results = self.store.apply(operations, anyio.current_time(), header)
        return TxnResult(succeeded, tuple(results), header(self.store.revision))

    def _append_entry(self) -> None:
        """Let the members apply one more entry of raft's log."""
        for member in self.members:
            member.entry_applied()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """Pass the commits of this block to the hooks and the members."""
        before = self.store.revision
        yield
        for commit in self.store.since(before + 1):
            for hook in list(self.controls.commit_hooks):
                hook(commit)
            for member in self.members:
                member.applied(commit)
        self.changed.send()

    def _need_space(self) -> None:
        if self.controls.no_space:
            raise EtcdUnavailableError("etcdserver: mvcc: database space exceeded")

    def compact(self, revision: int) -> None:
        """Compact the history before ``revision``."""
        if not self.store.compacted < revision <= self.store.revision:
            raise ValueError(f"revision {revision} is compacted already, or lies in the future")
        self.store.compacted = revision

    # etcd's leader

    def elect(self, chosen: Replica | None = None) -> None:
        """Elect another leader, in a new term. It extends every lease to its full TTL.

        Raises:
            ValueError: The chosen member has a fault.
        """
        self.leadership.elect(self.members, chosen)
        self._append_entry()  # A new leader's empty entry.
        self.unapplied_lessor = None
        self.lessor.promote(anyio.current_time())
        self.look_at_the_leader()

    def lose_leader(self) -> None:
        """Depose the leader. No member leads until one is elected."""
        self.leadership.lose()
        self.look_at_the_leader()

    def look_at_the_leader(self) -> None:
        """Wake the waiting calls and the expiry loop, because the leader or its state may have changed."""
        self._expires_sooner.send()  # it wakes the loop, even if leases expire later or do not expire
        self.changed.send()

    def leaders_lessor(self) -> Lessor:
        """Return a copy of the leader's leases, with all its renewals."""
        return (self.unapplied_lessor or self.lessor).copy()

    def replace(self, store: Store, lessor: Lessor, *, raft_term: int) -> None:
        """Restart all members with other data."""
        self.store, self.lessor = store, lessor
        self.leadership.begin(self.members, raft_term)
        lessor.promote(anyio.current_time())
        for member in self.members:
            member.start_over()
        self.look_at_the_leader()


def is_proposed(txn: Txn) -> bool:
    """Return whether a transaction is an entry of raft's log, even if it changes nothing. A read is not.

    etcd decides by both branches, not by the one that will run or by what it will change.
    """
    return not all(isinstance(one, Range) for one in (*txn.success, *txn.failure))


def _flattened(txn: Txn) -> Iterator[Operation]:
    for one in (*txn.success, *txn.failure):
        if isinstance(one, Txn):
            yield from _flattened(one)
        else:
            yield one


def _round_at(started: float, moment: float) -> float:
    """Return the time of the first round of the expiry loop at or after a moment."""
    if math.isinf(moment):
        return moment
    rounds = math.ceil((moment - started) / _EXPIRY_SECONDS)
    if started + rounds * _EXPIRY_SECONDS < moment:
        rounds += 1  # a round before the moment would revoke nothing, and the loop would repeat it without end
    return started + rounds * _EXPIRY_SECONDS
