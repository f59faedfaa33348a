"""What the members of a fake etcd share: the data, the leases, the leader, and the loops that run beside."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import anyio

from .._etcd.api import (
    Compare,
    Header,
    LeaseExistsError,
    LeaseNotFoundError,
    Operation,
    Put,
    Txn,
    TxnResult,
)
from ..errors import EtcdRefusedError, EtcdUnavailableError
from ._background import Background
from ._calls import CallKind
from ._leadership import Electable, Leadership
from ._lessor import Lessor
from ._signal import Signal
from ._store import MAX_TXN_OPS, Revision, Store

_EXPIRY_PERIOD = 0.5
_CATCH_UP_PERIOD = 0.1


class Replica(Electable, Protocol):
    """What the cluster asks of a member."""

    def entry_applied(self) -> None:
        """Take over the term of one more entry of raft's log."""

    def applied(self, commit: Revision) -> None:
        """Take in a commit."""

    def start_over(self) -> None:
        """Break all connections and be well, with the cluster's data."""

    @property
    def is_behind(self) -> bool:
        """Whether a watch of it waits for the catch-up loop."""
        ...

    def catch_up(self) -> None:
        """Serve the watches from the past."""


class Cluster(Background):
    """The state that raft agrees on.

    Attributes:
        leadership: Which member leads, and in which term.
        version: What members say that they are.
        no_space: The alarm NOSPACE is raised: what would need room is refused.
        fast_lease_keep_alive: etcd's leader renews what its lessor still knows, as etcd 3.7 does by default
            (``FastLeaseKeepAlive``). Otherwise a keep-alive waits until all that is committed is applied.
        woken_leaders_revoke: A member that led revokes by its own books when it wakes up (etcd#15247).
        unapplied_lessor: The leases as etcd's leader knew them when it ceased to apply what is committed, if it has.
    """

    def __init__(self, lessor: Lessor, seed: int) -> None:
        super().__init__()
        self.store = Store()
        self.lessor = lessor
        self.leadership = Leadership()
        self.members: tuple[Replica, ...] = ()
        self.cluster_id = 0xC1
        self.no_space = False
        self.fast_lease_keep_alive = True
        self.woken_leaders_revoke = True
        self.unapplied_lessor: Lessor | None = None
        self.version = "3.7.3"
        self.random = random.Random(seed)  # noqa: S311 - chance, not secrecy
        self.calls: Counter[CallKind] = Counter()
        self.commit_hooks: list[Callable[[Revision], None]] = []
        self._next_expiry = math.inf
        self._expires_sooner = Signal()

    def begin(self, members: Sequence[Replica]) -> None:
        """Take in the members, one of which leads."""
        self.members = tuple(members)
        self.leadership.begin(self.members, self.raft_term)

    @property
    def raft_term(self) -> int:
        """The term in force, and that of the last entry: a new leader begins with an empty one."""
        return self.leadership.raft_term

    @property
    def has_leader(self) -> bool:
        """Whether anything is agreed on: without a leader calls wait, and no lease expires."""
        return self.leadership.exists

    # Its tasks

    def loops(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        return (self._expire, self._catch_up)

    async def _expire(self) -> None:
        """Revoke expired leases, every half second. The loop sleeps over the rounds in which there is nothing to do,
        so that years of virtual time do not cost a wake-up for each."""
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
        """Serve the watches from the past, which etcd does every 100 ms."""
        while True:
            await self.changed.until(lambda: any(member.is_behind for member in self.members))
            await anyio.sleep(_CATCH_UP_PERIOD)
            for member in self.members:
                member.catch_up()

    # What is agreed on

    def grant(self, lease_id: int, ttl: int) -> int:
        """Grant a lease; returns its time to live.

        Raises:
            LeaseExistsError: The id is taken.
            EtcdUnavailableError: NOSPACE.
        """
        self._need_space()
        self._enter()
        if lease_id in self.lessor:
            raise LeaseExistsError("etcdserver: lease already exists")
        now = anyio.current_time()
        granted = self.lessor.grant(lease_id, ttl, now)
        if self.has_leader and now + granted < self._next_expiry:
            self._expires_sooner.send()
        return granted

    def revoke(self, lease_id: int) -> None:
        """Revoke a lease and delete its keys, in one revision.

        Raises:
            LeaseNotFoundError: There is none.
        """
        self._enter()
        if lease_id not in self.lessor:
            raise LeaseNotFoundError("etcdserver: requested lease not found")
        self.lessor.revoke(lease_id)
        with self._committing():
            self.store.delete_keys_on(lease_id, anyio.current_time())

    def delete_keys_on(self, lease_id: int) -> None:
        """Do the first half of a revocation: the keys go, and the lease can still be renewed (etcd#14758)."""
        self._enter()
        if lease_id not in self.lessor:
            raise LeaseNotFoundError("etcdserver: requested lease not found")
        with self._committing():
            self.store.delete_keys_on(lease_id, anyio.current_time())

    def apply_no_more(self) -> None:
        """etcd's leader commits, and does not apply what is committed."""
        self.unapplied_lessor = self.lessor.copy()
        self.changed.send()

    def apply(self) -> None:
        """etcd's leader has applied all that is committed."""
        self.unapplied_lessor = None
        self.changed.send()

    def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation],
        header: Callable[[int], Header],
        *,
        proposed: bool,
    ) -> TxnResult:
        """Do a transaction.

        Args:
            compare: The conditions.
            success: Done if all of them hold.
            failure: Done otherwise.
            header: Makes the header of a response, from the revision.
            proposed: It is an entry of raft's log, whether or not it changes anything. A read is none.

        Raises:
            LeaseNotFoundError: A put names a lease that does not exist; nothing was done.
            EtcdRefusedError: It is too large, or puts with ``ignore_value`` or ``ignore_lease`` what is not there.
            EtcdUnavailableError: NOSPACE.
        """
        if max(len(compare), len(success), len(failure)) > MAX_TXN_OPS:
            raise EtcdRefusedError("etcdserver: too many operations in txn request")
        if any(isinstance(operation, Put) for operation in _flattened((*success, *failure))):
            self._need_space()
        if proposed:
            self._enter()
        succeeded = all(self.store.holds(one) for one in compare)
        operations = success if succeeded else failure
        self.store.check(operations, self.lessor.__contains__)
        with self._committing():
            results = self.store.apply(operations, anyio.current_time(), header)
        return TxnResult(succeeded, tuple(results), header(self.store.revision))

    def _enter(self) -> None:
        """Have the members apply one more entry of raft's log."""
        for member in self.members:
            member.entry_applied()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """Tell the members of what is committed."""
        before = self.store.revision
        yield
        for commit in self.store.since(before + 1):
            for hook in list(self.commit_hooks):
                hook(commit)
            for member in self.members:
                member.applied(commit)
        self.changed.send()

    def _need_space(self) -> None:
        if self.no_space:
            raise EtcdUnavailableError("etcdserver: mvcc: database space exceeded")

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        if not self.store.compacted < revision <= self.store.revision:
            raise ValueError(f"revision {revision} is compacted already, or lies in the future")
        self.store.compacted = revision

    # Its leader

    def elect(self, chosen: Replica | None = None) -> None:
        """Let another member lead, in a new term. It gives every lease its full time.

        Raises:
            ValueError: The chosen member is not well.
        """
        self.leadership.elect(self.members, chosen)
        self._enter()  # A new leader's empty entry.
        self.unapplied_lessor = None
        self.lessor.promote(anyio.current_time())
        self.look_at_the_leader()

    def lose_leader(self) -> None:
        """Let no member lead until one is elected."""
        self.leadership.lose()
        self.look_at_the_leader()

    def look_at_the_leader(self) -> None:
        """Let calls and the expiry of leases go on or wait, as there is a leader or none."""
        self._expires_sooner.send()  # or later, or not at all
        self.changed.send()

    def leaders_books(self) -> Lessor:
        """Return a copy of the leases as the leader knows them, with all that it has renewed."""
        return (self.unapplied_lessor or self.lessor).copy()

    def replace(self, store: Store, lessor: Lessor, *, raft_term: int) -> None:
        """Stop all members and start them with other data."""
        self.store, self.lessor = store, lessor
        self.leadership.begin(self.members, raft_term)
        lessor.promote(anyio.current_time())
        for member in self.members:
            member.start_over()
        self.look_at_the_leader()


def _flattened(operations: Sequence[Operation]) -> Iterator[Operation]:
    for one in operations:
        if isinstance(one, Txn):
            yield from _flattened((*one.success, *one.failure))
        else:
            yield one


def _round_at(started: float, moment: float) -> float:
    """The first round of the expiry loop at or after a moment."""
    if math.isinf(moment):
        return moment
    rounds = math.ceil((moment - started) / _EXPIRY_PERIOD)
    if started + rounds * _EXPIRY_PERIOD < moment:
        rounds += 1  # rounding must not bring it forward, or the loop would find nothing to do and not move on
    return started + rounds * _EXPIRY_PERIOD
