"""One member of a fake etcd: what a client speaks to, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from .._etcd import messages
from .._etcd.api import KeepAlive, LeaseGranted, LeaseTimeToLive, MemberStatus, Range, RangeResult, Txn, TxnResult
from ..errors import EtcdUnavailableError
from ._cluster import Cluster
from ._lessor import Lessor
from ._member_state import MemberState, State
from ._old_books import revoke_by

T = TypeVar("T")


class FakeMember(MemberState):
    """A member of the cluster. Each fault lasts until :meth:`recover`.

    Attributes:
        answers_early: Answer a write before the term of its entry is taken over: the header then carries the term of
            the entry before, as etcd's may. False at first.
    """

    def __init__(self, cluster: Cluster, member_id: int) -> None:
        super().__init__(cluster, member_id)
        self.answers_early = False

    # What a test does to it

    def lag(self) -> None:
        """Apply nothing any more: watches fall silent, linearizable reads wait. Writes are passed on and committed, but
        their answers wait. Keep-alives are passed on to the leader and answered, under this member's old term."""
        self._enter(State.LAGGING)

    def depose(self) -> None:
        """Be the leader that has just been cut off and does not know: another one is elected, which gives all leases
        their full time. This one goes on acknowledging keep-alives, under its old term, even of leases that are revoked
        by now, and reports a TTL of 0 for leases that were granted later; reads wait, writes come to nothing. A real
        one finds out within two election timeouts. If another member led, it was this one from now on.

        When it recovers, it revokes leases by mistake, as one that was frozen does (:meth:`freeze`)."""
        self._cluster.leadership.take_for(self)
        self._books = self._cluster.leaders_books()
        self._enter(State.DEPOSED)
        self._cluster.elect()

    def freeze(self) -> None:
        """Stop, as on SIGSTOP: the member receives requests and responds to none.

        Without etcd's leader nothing is agreed on and no lease expires, until the member recovers, or
        :meth:`FakeEtcd.change_leader`. After such an election it makes etcd's mistake when it recovers (etcd#15247): it
        revokes the leases that have expired *in its own books*, whatever its successor has renewed. Leases that were
        granted after it froze are not in them. The revocations come within 50 ms, in an order and at moments that the
        seed draws; it is a follower then."""
        if self._cluster.leadership.is_of(self) and self._books is None:
            self._books = self._cluster.leaders_books()
        self._enter(State.FROZEN)

    def kill(self) -> None:
        """Go down: connections break, new ones are refused. Without etcd's leader nothing is agreed on, and no lease
        expires."""
        self._books = None
        self._enter(State.DOWN)
        self._break_streams()

    def recover(self, *, by_snapshot: bool = False) -> None:
        """Be well again, and catch up with what was missed. One that was killed leads no more.

        Args:
            by_snapshot: Catch up by a snapshot of the data, not by the entries of raft's log. The member keeps its old
                :attr:`raft_term`, and 0 if it was killed, until it applies an entry: any write, from any client, also
                one that changes nothing. The writes that wait for it are not answered.
        """
        killed, books = self._state is State.DOWN, self._books
        missed = self._cluster.store.since(self.revision + 1)
        self._state, self._books = State.UP, None
        if not by_snapshot:
            self._raft_term = self._cluster.raft_term
        else:
            self._snapshots += 1
            self._raft_term = 0 if killed else self._raft_term
        for commit in missed:
            self.watches.notify(commit)
        if self._cluster.leadership.is_of(self) and killed:
            self._cluster.elect()
        elif not self._cluster.leadership.is_of(self) and books is not None:
            revoke_by(books, self._cluster)
        self._cluster.look_at_the_leader()

    def restart(self, *, by_snapshot: bool = False) -> None:
        """Break all connections and be well. If it led, there is an election.

        Args:
            by_snapshot: Find all data in a snapshot: :attr:`raft_term` is 0 until the member applies an entry.
        """
        self.kill()
        self.recover(by_snapshot=by_snapshot)

    # What clients find

    def status(self) -> MemberStatus:
        """What it says of itself when asked."""
        return MemberStatus(self._cluster.version, self._cluster.leadership.leader_id, self.header())

    async def handle(self, request: Any) -> Any:
        """Serve one request that is no message of a stream."""
        cluster = self._cluster
        match request:
            case Range():
                return await self.read(lambda: cluster.txn((), (request,), (), self.header, proposed=False).results[0])
            case Txn(compare, success, failure):
                # As etcd decides: by both branches, whichever will run, and whether or not it will change anything.
                proposed = not all(isinstance(one, Range) for one in (*success, *failure))
                return await (self.write if proposed else self.read)(
                    lambda: cluster.txn(compare, success, failure, self.header, proposed=proposed)
                )
            case messages.LeaseGrantRequest(ttl, lease_id):
                return await self.write(lambda: LeaseGranted(lease_id, cluster.grant(lease_id, ttl), self.header()))
            case messages.LeaseRevokeRequest(lease_id):
                return await self.write(lambda: self._revoked(lease_id))
            case messages.LeaseTimeToLiveRequest(lease_id, keys):
                return await self.time_to_live(lease_id, keys=keys)
            case messages.RaftTermRequest():
                await self._until(lambda: not self.frozen)
                return messages.RaftTermResponse(self.header())
            case messages.StatusRequest():
                await anyio.lowlevel.checkpoint()
                return self.status()
        raise TypeError(f"a fake etcd does not know {type(request).__name__}")

    def _revoked(self, lease_id: int) -> messages.LeaseRevokeResponse:
        self._cluster.revoke(lease_id)
        return messages.LeaseRevokeResponse(self.header())

    async def read(self, question: Callable[[], T]) -> T:
        """Answer linearizably."""
        await self._until(lambda: self.is_well and self._cluster.has_leader)
        return question()

    async def until_awake(self) -> None:
        """Wait until it is not frozen.

        Raises:
            EtcdUnavailableError: It is down.
        """
        await self._until(lambda: not self.frozen)

    async def write(self, change: Callable[[], Any]) -> Any:
        """Have something committed, and answer when this member has applied it."""
        await self._until(lambda: not self.frozen)
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
            raise EtcdUnavailableError("etcdserver: request timed out")  # The entry itself never came.
        # It has applied the entry now, and so knows the term that it was committed in.
        return _under_term(answer, self.raft_term)

    async def keep_alive(self, lease_id: int) -> KeepAlive:
        """Renew a lease, with whom this member takes for the leader. No consensus is asked for."""
        await self._until(lambda: not self.frozen and (self._books is not None or self._cluster.has_leader))
        await self._until(lambda: self._cluster.fast_lease_keep_alive or self._cluster.unapplied_lessor is None)
        header = self.header()
        # One that has expired is never saved: the answer waits for its revocation, or for another leader.
        await self._until(lambda: not self._expired(lease_id))
        lessor = self._its_lessor()
        ttl = lessor.renew(lease_id, anyio.current_time()) if lease_id in lessor else 0
        return KeepAlive(lease_id, ttl, header)

    async def time_to_live(self, lease_id: int, *, keys: bool) -> LeaseTimeToLive:
        """Tell what is left of a lease."""
        await self._until(lambda: not self.frozen and (self._books is not None or self._cluster.has_leader))
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
        return self._books or self._cluster.unapplied_lessor or self._cluster.lessor

    def _expired(self, lease_id: int) -> bool:
        lessor = self._its_lessor()
        return lease_id in lessor and lessor.remaining(lease_id, anyio.current_time()) <= 0

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until this member can go on.

        Raises:
            EtcdUnavailableError: It went down.
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
