"""One member of a fake etcd: what a client speaks to, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from .._etcd.api import Header, KeepAlive, LeaseGranted, LeaseTimeToLive, MemberStatus, Range
from .._etcd.messages import (
    LeaseGrantRequest,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    RaftTermRequest,
    RaftTermResponse,
    StatusRequest,
    TxnRequest,
)
from ..errors import EtcdUnavailableError
from ._cluster import Cluster
from ._lessor import Lessor
from ._store import Revision
from ._watches import Watches

if TYPE_CHECKING:
    from .._etcd.stream import Stream

__all__ = ("FakeMember",)

T = TypeVar("T")


class _State(Enum):
    UP = "up"
    LAGGING = "lagging"
    DEPOSED = "deposed"
    FROZEN = "frozen"
    DOWN = "down"


class FakeMember:
    """A member of the cluster. Each fault lasts until :meth:`recover`."""

    def __init__(self, cluster: Cluster, member_id: int) -> None:
        self.member_id = member_id
        self.watches = Watches()
        self._cluster = cluster
        self._state = _State.UP
        self._revision = 0
        self._raft_term = 0
        self._lessor: Lessor | None = None
        self.streams: dict[Stream, None] = {}
        """Those that are open."""

    def __repr__(self) -> str:
        return f"<FakeMember {self.member_id:x} {self._state.value}>"

    # What a test does to it

    def lag(self) -> None:
        """Apply nothing any more: watches fall silent, linearizable reads wait. Writes are passed on and committed, but
        their answers wait. Keep-alives are passed on to the leader and answered, under this member's old term."""
        self._enter(_State.LAGGING)

    def depose(self) -> None:
        """Be the leader that has just been cut off and does not know: another one is elected, which gives all leases
        their full time. This one goes on acknowledging keep-alives, under its old term, even of leases that are revoked
        by now; reads wait, writes come to nothing. A real one finds out within two election timeouts."""
        self._enter(_State.DEPOSED)
        self._lessor = self._cluster.lessor.copy()
        self._cluster.elect()

    def freeze(self) -> None:
        """Stand still, as on SIGSTOP: whoever speaks to it hears nothing."""
        self._enter(_State.FROZEN)

    def kill(self) -> None:
        """Go down: connections break, new ones are refused."""
        self._enter(_State.DOWN)
        self._break_streams()

    def recover(self) -> None:
        """Be well again, and apply what was missed."""
        missed = self._cluster.store.since(self.revision + 1)
        self._state, self._lessor = _State.UP, None
        for commit in missed:
            self.watches.notify(commit)
        self._tell()

    def _enter(self, state: _State) -> None:
        self._revision, self._raft_term = self.revision, self.raft_term
        self._state = state
        self._tell()

    def _tell(self) -> None:
        self._cluster.changed.send()

    # What the cluster does to it

    def restart(self) -> None:
        """Break all connections and be well."""
        self._state, self._lessor = _State.UP, None
        self._break_streams()

    def applied(self, commit: Revision) -> None:
        """Take in a commit, unless something is wrong."""
        if self._state is _State.UP:
            self.watches.notify(commit)

    def _break_streams(self) -> None:
        for stream in list(self.streams):
            stream.end(EtcdUnavailableError("the stream was broken"))

    @property
    def is_behind(self) -> bool:
        """Whether a watch of it waits for the catch-up loop."""
        return self.watches.behind

    def catch_up(self) -> None:
        """Serve the watches from the past, up to what it has applied."""
        self.watches.catch_up(self._cluster.store, self.revision)

    # What clients find

    @property
    def revision(self) -> int:
        """The last revision that it has applied."""
        return self._cluster.store.revision if self._state is _State.UP else self._revision

    @property
    def raft_term(self) -> int:
        """The term of the last raft entry that it has applied."""
        return self._cluster.raft_term if self._state is _State.UP else self._raft_term

    @property
    def frozen(self) -> bool:
        """Whether it hears and says nothing."""
        return self._state is _State.FROZEN

    def check_up(self) -> None:
        """Raise what a connection attempt meets.

        Raises:
            EtcdUnavailableError: It is down.
        """
        if self._state is _State.DOWN:
            raise EtcdUnavailableError("connection refused")

    def header(self, revision: int | None = None) -> Header:
        """What it says of itself in an answer."""
        return Header(
            self._cluster.cluster_id, self.member_id, self.revision if revision is None else revision, self.raft_term
        )

    def status(self) -> MemberStatus:
        """What it says of itself when asked."""
        leader = self._cluster.members[0].member_id if self._cluster.has_leader else 0
        return MemberStatus(self._cluster.version, leader, self.header())

    async def handle(self, request: Any) -> Any:
        """Serve one request that is no message of a stream."""
        cluster = self._cluster
        match request:
            case Range():
                return await self.read(lambda: cluster.txn((), (request,), (), self.header).results[0])
            case TxnRequest(compare, success, failure, by_consensus):
                writes = by_consensus or not all(isinstance(one, Range) for one in (*success, *failure))
                return await (self.write if writes else self.read)(
                    lambda: cluster.txn(compare, success, failure, self.header)
                )
            case LeaseGrantRequest(ttl, lease_id):
                return await self.write(lambda: LeaseGranted(lease_id, cluster.grant(lease_id, ttl), self.header()))
            case LeaseRevokeRequest(lease_id):
                return await self.write(lambda: self._revoked(lease_id))
            case LeaseTimeToLiveRequest(lease_id, keys):
                return await self.time_to_live(lease_id, keys=keys)
            case RaftTermRequest():
                await self._until(lambda: not self.frozen)
                return RaftTermResponse(self.header())
            case StatusRequest():
                await anyio.lowlevel.checkpoint()
                return self.status()
        raise TypeError(f"a fake etcd does not know {type(request).__name__}")

    def _revoked(self, lease_id: int) -> LeaseRevokeResponse:
        self._cluster.revoke(lease_id)
        return LeaseRevokeResponse(self.header())

    async def read(self, question: Callable[[], T]) -> T:
        """Answer linearizably."""
        await self._until(lambda: self._state is _State.UP and self._cluster.has_leader)
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
        if self._state is _State.DEPOSED:
            await self._until(lambda: self._state is not _State.DEPOSED)
            raise EtcdUnavailableError("etcdserver: request timed out, possibly due to previous leader failure")
        await self._until(lambda: self._cluster.has_leader)
        answer = change()
        if self._state is _State.UP:
            return answer
        await self._until(lambda: self._state is _State.UP)
        # It has applied the entry now, and so knows the term that it was committed in.
        return answer._replace(header=answer.header._replace(raft_term=self.raft_term))

    async def keep_alive(self, lease_id: int) -> KeepAlive:
        """Renew a lease, with whom this member takes for the leader. No consensus is asked for."""
        await self._until(lambda: not self.frozen and (self._lessor is not None or self._cluster.has_leader))
        await self._until(lambda: self._cluster.fast_lease_keep_alive or self._cluster.unapplied_lessor is None)
        header = self.header()
        # One that has expired is never saved: the answer waits for its revocation, or for another leader.
        await self._until(lambda: not self._expired(lease_id))
        lessor = self._its_lessor()
        ttl = lessor.renew(lease_id, anyio.current_time()) if lease_id in lessor else 0
        return KeepAlive(lease_id, ttl, header)

    async def time_to_live(self, lease_id: int, *, keys: bool) -> LeaseTimeToLive:
        """Tell what is left of a lease."""
        await self._until(lambda: not self.frozen and (self._lessor is not None or self._cluster.has_leader))
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
        return self._lessor or self._cluster.unapplied_lessor or self._cluster.lessor

    def _expired(self, lease_id: int) -> bool:
        lessor = self._its_lessor()
        return lease_id in lessor and lessor.remaining(lease_id, anyio.current_time()) <= 0

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until this member can go on.

        Raises:
            EtcdUnavailableError: It went down.
        """
        await self._cluster.changed.until(lambda: self._state is _State.DOWN or holds())
        self.check_up()
