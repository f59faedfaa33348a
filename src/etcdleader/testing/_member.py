"""One member of a fake etcd: it serves requests, and tests inject its faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from .._etcd import messages
from .._etcd.api import KeepAlive, LeaseGranted, LeaseTimeToLive, MemberStatus, Range, RangeResult, Txn, TxnResult
from ..errors import EtcdUnavailableError
from ._cluster import Cluster, is_proposed
from ._lessor import Lessor
from ._member_state import MemberState, State
from ._stale_lessor import revoke_expired

T = TypeVar("T")


class FakeMember(MemberState):
    """A member of the cluster. Each fault lasts until :meth:`recover`.

    Attributes:
        answers_early: Respond to a write before the member adopts the term of its entry. The header then has the
            previous entry's term, as etcd's may. False at first.
    """

    def __init__(self, cluster: Cluster, member_id: int) -> None:
        super().__init__(cluster, member_id)
        self.answers_early = False

    # Faults, for tests

    def lag(self) -> None:
        """Stop applying entries.

        - Watches deliver nothing, and linearizable reads wait.
        - Writes are forwarded and committed, but their responses wait.
        - Keep-alives are forwarded to the leader. Their responses have this member's old term.
        """
        self._enter(State.LAGGING)

    def depose(self) -> None:
        """Make this member a leader that was cut off and has not detected it. Another leader is elected.

        If this member did not lead, it counts as the leader before that election. The new leader extends all leases to
        their full TTL. A real leader that is cut off steps down within two election timeouts. Until :meth:`recover`:

        - This member acknowledges keep-alives under its old term, even of leases that have been revoked since.
        - It reports a TTL of 0 for leases that were granted after the election.
        - Reads wait. Writes wait too, and then fail.

        When it recovers, it revokes leases by mistake, as a frozen leader does (:meth:`freeze`).
        """
        self._cluster.leadership.take_for(self)
        self._stale_lessor = self._cluster.leaders_lessor()
        self._enter(State.DEPOSED)
        self._cluster.elect()

    def freeze(self) -> None:
        """Freeze the member, as SIGSTOP does: it receives requests and does not respond.

        If it is etcd's leader, nothing is committed and no lease expires until it recovers or
        :meth:`FakeEtcd.change_leader` is called. After such an election, it makes etcd's mistake when it recovers
        (etcd#15247). It revokes the leases that have expired *in its own lessor*, even if its successor has renewed
        them. Leases that were granted after it froze are not in its lessor. It is a follower by then. The revocations
        follow within 50 ms, at random times from the seed.
        """
        if self._cluster.leadership.is_of(self) and self._stale_lessor is None:
            self._stale_lessor = self._cluster.leaders_lessor()
        self._enter(State.FROZEN)

    def kill(self) -> None:
        """Kill the member: its connections break, and new ones are refused.

        If it is etcd's leader, nothing is committed and no lease expires until another is elected.
        """
        self._stale_lessor = None
        self._enter(State.DOWN)
        self._break_streams()

    def recover(self, *, by_snapshot: bool = False) -> None:
        """End the member's fault, and let it catch up. A leader that was killed comes back as a follower.

        Args:
            by_snapshot: Catch up by a snapshot of the data, not by the entries of raft's log. The member keeps its old
                :attr:`raft_term`, or has 0 if it was killed, until it applies an entry. Any client's write is an entry,
                even if it changes nothing. The writes that wait for this member fail.
        """
        killed, stale_lessor = self._state is State.DOWN, self._stale_lessor
        missed = self._cluster.store.since(self.revision + 1)
        self._state, self._stale_lessor = State.UP, None
        if not by_snapshot:
            self._raft_term = self._cluster.raft_term
        else:
            self._snapshots += 1
            self._raft_term = 0 if killed else self._raft_term
        for commit in missed:
            self.watches.notify(commit)
        if self._cluster.leadership.is_of(self) and killed:
            self._cluster.elect()
        elif not self._cluster.leadership.is_of(self) and stale_lessor is not None:
            revoke_expired(stale_lessor, self._cluster)
        self._cluster.look_at_the_leader()

    def restart(self, *, by_snapshot: bool = False) -> None:
        """Kill the member and let it recover. If it is etcd's leader, there is an election.

        Args:
            by_snapshot: Load all data from a snapshot: :attr:`raft_term` is 0 until the member applies an entry.
        """
        self.kill()
        self.recover(by_snapshot=by_snapshot)

    # Requests

    def status(self) -> MemberStatus:
        """Return the response to a status request."""
        return MemberStatus(self._cluster.controls.version, self._cluster.leadership.leader_id, self.header())

    async def handle(self, request: Any) -> Any:
        """Process one request, which creates no watch, and return its response."""
        cluster = self._cluster
        match request:
            case Range():
                return await self.read(lambda: cluster.txn(Txn((), (request,), ()), self.header).results[0])
            case Txn():
                run = self.write if is_proposed(request) else self.read
                return await run(lambda: cluster.txn(request, self.header))
            case messages.LeaseGrantRequest(ttl, lease_id):
                return await self.write(lambda: LeaseGranted(lease_id, cluster.grant(lease_id, ttl), self.header()))
            case messages.LeaseRevokeRequest(lease_id):
                return await self.write(lambda: self._revoked(lease_id))
            case messages.LeaseKeepAliveRequest(lease_id):
                return await self.keep_alive(lease_id)
            case messages.LeaseTimeToLiveRequest(lease_id, keys):
                return await self.time_to_live(lease_id, keys=keys)
            case messages.RaftTermRequest():
                await self.until_awake()
                return messages.RaftTermResponse(self.header())
            case messages.StatusRequest():
                await anyio.lowlevel.checkpoint()
                return self.status()
        raise TypeError(f"a fake etcd does not support {type(request).__name__}")

    def _revoked(self, lease_id: int) -> messages.LeaseRevokeResponse:
        self._cluster.revoke(lease_id)
        return messages.LeaseRevokeResponse(self.header())

    async def read(self, question: Callable[[], T]) -> T:
        """Return the result of a linearizable read."""
        await self._until(lambda: self.is_well and self._cluster.has_leader)
        return question()

    async def until_awake(self) -> None:
        """Wait until the member is not frozen.

        Raises:
            EtcdUnavailableError: The member is down.
        """
        await self._until(lambda: not self.frozen)

    async def write(self, change: Callable[[], Any]) -> Any:
        """Commit a change, and return its response once this member has applied it."""
        await self.until_awake()
        if self._state is State.DEPOSED:
            await self._until(lambda: self._state is not State.DEPOSED)
            raise EtcdUnavailableError("etcdserver: request timed out, possibly due to previous leader failure")
        await self._until(lambda: self._cluster.has_leader)
        term_before, snapshots = self.raft_term, self._snapshots
        answer = change()
        if self.is_well:
            return _under_term(answer, term_before) if self.answers_early else answer
        await self._until(lambda: self.is_well)
        if self._snapshots != snapshots:
            raise EtcdUnavailableError("etcdserver: request timed out")  # The snapshot replaced the entry.
        # It has applied the entry now, and has adopted the term in which the entry was committed.
        return _under_term(answer, self.raft_term)

    async def keep_alive(self, lease_id: int) -> KeepAlive:
        """Renew a lease, without consensus, at the member that this one considers the leader."""
        await self._until(lambda: not self.frozen and (self._stale_lessor is not None or self._cluster.has_leader))
        await self._until(
            lambda: self._cluster.controls.fast_lease_keep_alive or self._cluster.unapplied_lessor is None
        )
        header = self.header()
        # An expired lease is never renewed: the response waits for its revocation, or for another leader.
        await self._until(lambda: not self._expired(lease_id))
        lessor, now = self._its_lessor(), anyio.current_time()
        ttl = lessor.renew(lease_id, now) if lease_id in lessor else 0
        if lessor is self._cluster.unapplied_lessor and lease_id in self._cluster.lessor:
            self._cluster.lessor.renew(lease_id, now)  # it lasts when the committed entries are applied
        return KeepAlive(lease_id, ttl, header)

    async def time_to_live(self, lease_id: int, *, keys: bool) -> LeaseTimeToLive:
        """Return a lease's remaining TTL, and its keys if they are requested."""
        await self._until(lambda: not self.frozen and (self._stale_lessor is not None or self._cluster.has_leader))
        lessor = self._its_lessor()
        if lease_id not in lessor:
            return LeaseTimeToLive(lease_id, -1, 0, (), self.header())
        return LeaseTimeToLive(
            lease_id,
            ttl=int(lessor.remaining(lease_id, anyio.current_time())),
            granted_ttl=lessor.ttl(lease_id),
            keys=self._cluster.store.keys_on(lease_id) if keys else (),
            header=self.header(),
        )

    def _its_lessor(self) -> Lessor:
        return self._stale_lessor or self._cluster.unapplied_lessor or self._cluster.lessor

    def _expired(self, lease_id: int) -> bool:
        lessor = self._its_lessor()
        return lease_id in lessor and lessor.remaining(lease_id, anyio.current_time()) <= 0

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds.

        Raises:
            EtcdUnavailableError: The member is down.
        """
        await self._cluster.changed.until(lambda: self._state is State.DOWN or holds())
        self.check_up()


def _under_term(answer: Any, raft_term: int) -> Any:
    """Return a response with another term in its header, and in those inside it."""
    if isinstance(answer, TxnResult):
        results = (
            replace(one, header=one.header._replace(raft_term=raft_term)) if isinstance(one, RangeResult) else one
            for one in answer.results
        )
        answer = answer._replace(results=tuple(results))
    return answer._replace(header=answer.header._replace(raft_term=raft_term))
