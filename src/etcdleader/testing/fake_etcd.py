"""An etcd in memory, on the event loop's clock. Tests inject faults: lost responses, lag, restored backups."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import anyio

from .._etcd.api import DeleteRange, DeleteRangeResult, KeyValue, Put, Txn, TxnResult
from ._calls import Call, CallKind
from ._client import FakeClient
from ._cluster import Cluster
from ._controls import Controls
from ._lessor import Lessor
from ._member import FakeMember
from ._store import Commit, Store

__all__ = ("Call", "CallKind", "Commit", "FakeClient", "FakeEtcd", "FakeMember", "Snapshot")


@dataclass(frozen=True)
class Snapshot:
    """A backup of an etcd: its keys and its leases."""

    store: Store
    lessor: Lessor


class FakeEtcd(Controls, anyio.AsyncContextManagerMixin):
    """A small etcd for tests, on any event loop. On virtual time, an hour of it takes a moment.

    ::

        async with FakeEtcd() as etcd:
            alice = EtcdLeaderManager(etcd.client("alice"), config, "jobs")
            bob = EtcdLeaderManager(etcd.client("bob"), config, "jobs")

    Faults can be injected into each client's network (:class:`FakeClient`) and into each member (:class:`FakeMember`).
    A test that needs no network faults can use the fake itself as a client. The methods here, such as :meth:`put`, take
    effect at once, without the network. Keys are text or bytes.
    """

    def __init__(self, *, members: int = 1, minimum_ttl: int = 2, election_timeout: float = 1.0, seed: int = 0) -> None:
        """Create an etcd that is not running yet.

        Args:
            members: The number of members.
            minimum_ttl: The shortest TTL that is granted, in seconds.
            election_timeout: etcd's election timeout, in seconds. A new etcd leader adds it to every lease.
            seed: The seed of all random values, such as latencies and the pauses of the managers.
        """
        super().__init__()
        self._empty = Lessor(minimum_ttl, election_timeout)
        self._cluster = Cluster(self, self._empty.copy(), seed)
        self._members = tuple(FakeMember(self._cluster, 0xA0 + number) for number in range(members))
        self._cluster.begin(self._members)
        self._clients: list[FakeClient] = []
        self._connect_itself()

    def _connect_itself(self) -> None:
        """Implement the port, too, so that a test without network faults can pass the fake to its managers."""
        self._plain = plain = self.client()
        self.uniform = plain.uniform
        self.lease_grant = plain.lease_grant
        self.lease_revoke = plain.lease_revoke
        self.lease_keep_alive = plain.lease_keep_alive
        self.lease_time_to_live = plain.lease_time_to_live
        self.member_status = plain.member_status
        self.member_raft_term = plain.member_raft_term
        self.range = plain.range
        self.txn = plain.txn
        self.watch = plain.watch
        self.report_endpoint_failure = plain.report_endpoint_failure
        self.on_version = plain.on_version
        self.on_header = plain.on_header
        self.aclose = plain.aclose

    @property
    def endpoint_number(self) -> int:
        """The number of the endpoint in use, as the port requires it."""
        return self._plain.endpoint_number

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        task = anyio.get_current_task().id
        try:
            async with self._running():
                yield self
        except RuntimeError as error:
            if anyio.get_current_task().id == task:
                raise
            # The error comes from a cancel scope, which must be left in the task that entered it.
            raise RuntimeError(
                "the block `async with FakeEtcd()` was left in another task than the one that entered it. Enter and leave it "
                "in one task, as fixtures of anyio's pytest plugin do, and not those of pytest-asyncio"
            ) from error

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[None, None]:
        if self._plain.closed:
            self._connect_itself()  # the fake was entered before, and leaving it closed its client
        failure: BaseException | None = None
        async with anyio.create_task_group() as group:
            self._cluster.start(group)
            try:
                yield
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001
                # Raised again outside the group, which would wrap it.
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    for client in self._clients:
                        await client.aclose()
                self._clients.clear()
                self._cluster.end()
                group.cancel_scope.cancel()
        if self._cluster.failure is not None:
            raise self._cluster.failure from failure
        if failure is not None:
            raise failure

    def client(self, name: str = "client", *, endpoints: Sequence[FakeMember] | None = None) -> FakeClient:
        """Return a new connection, which implements the port.

        Args:
            name: Its name in the :class:`Call` that hooks receive.
            endpoints: The members that it may connect to, in order; by default all.
        """
        client = FakeClient(name, self._cluster, self.members if endpoints is None else endpoints)
        self._clients.append(client)
        return client

    @property
    def members(self) -> tuple[FakeMember, ...]:
        """The members. A client uses its first one until it switches."""
        return self._members

    # State, for tests

    @property
    def revision(self) -> int:
        """The revision of the last commit; a new etcd is at 1."""
        return self._cluster.store.revision

    @property
    def raft_term(self) -> int:
        """The term in force. A member may report another one (:attr:`FakeMember.raft_term`)."""
        return self._cluster.raft_term

    @property
    def leader(self) -> FakeMember | None:
        """The member that is etcd's leader, at first the last one; None while no member leads.

        A leader that is frozen or killed remains the leader, and nothing is committed, until it recovers or
        :meth:`change_leader` is called. If no member could be elected, this is None, and a member outside the fake
        leads.
        """
        return next((member for member in self._members if self._cluster.leadership.is_of(member)), None)

    @property
    def history(self) -> Sequence[Commit]:
        """Every commit, even if it was compacted. After a restore, the commits of the backup and all later ones."""
        return tuple(self._cluster.store.history)

    def keys(self) -> dict[bytes, KeyValue]:
        """Return the present keys, oldest first."""
        return dict(self._cluster.store.keys)

    def leases(self) -> dict[int, float]:
        """Return each lease with the seconds until it expires. An expired lease exists until it is revoked."""
        lessor, now = self._cluster.lessor, anyio.current_time()
        return {lease_id: lessor.remaining(lease_id, now) for lease_id in lessor.ids()}

    # An operator's actions

    def put(
        self,
        key: str | bytes,
        value: str | bytes = b"",
        *,
        lease: int = 0,
        ignore_value: bool = False,
        ignore_lease: bool = False,
    ) -> int:
        """Put a key by hand and return the revision."""
        put = Put(_bytes(key), _bytes(value), lease, ignore_value, ignore_lease)
        return self._do(put).header.revision

    def request_step_down(self, key: str | bytes) -> int:
        """Put a candidate's key without changing it, which requests a step-down. Return the revision."""
        return self.put(key, ignore_value=True, ignore_lease=True)

    def delete(self, key: str | bytes) -> int:
        """Delete a key by hand and return the number of deleted keys."""
        return self._delete(DeleteRange(_bytes(key)))

    def delete_prefix(self, prefix: str | bytes) -> int:
        """Delete all keys with this prefix, in one revision, and return their number."""
        start = _bytes(prefix)
        return self._delete(DeleteRange(start, start[:-1] + bytes([start[-1] + 1])))

    def grant(self, lease_id: int, ttl: int) -> None:
        """Grant a lease by hand. No client keeps it alive."""
        self._cluster.grant(lease_id, ttl)

    def revoke(self, lease_id: int) -> None:
        """Revoke a lease by hand, with its keys."""
        self._cluster.revoke(lease_id)

    def compact(self, revision: int | None = None) -> None:
        """Compact the history before ``revision``, by default before the last commit."""
        self._cluster.compact(self.revision if revision is None else revision)

    def revoke_halfway(self, lease_id: int) -> None:
        """Delete the keys of a lease, which can still be renewed, as in the middle of a revocation (etcd#14758)."""
        self._cluster.revoke(lease_id, halfway=True)

    def apply_no_more(self) -> None:
        """Let etcd's leader commit entries without applying them, until :meth:`apply` or another leader.

        With ``fast_lease_keep_alive``, it still renews leases whose revocation is committed.
        """
        self._cluster.apply_no_more()

    def apply(self) -> None:
        """Let etcd's leader apply all committed entries."""
        self._cluster.apply()

    def snapshot(self) -> Snapshot:
        """Return a backup of the keys and leases."""
        return Snapshot(self._cluster.store.copy(), self._cluster.lessor.copy())

    # Faults of the whole cluster

    def change_leader(self, member: FakeMember | None = None) -> None:
        """Elect a leader of etcd: the raft term rises, and all leases are extended to their full TTL.

        Args:
            member: The member to elect. The default is the first member that has no fault and is not the present
                leader, if there is one.

        Raises:
            ValueError: The member has a fault.
        """
        self._cluster.elect(member)

    def lose_leader(self) -> None:
        """Depose etcd's leader. Until :meth:`change_leader`, calls wait and no lease expires."""
        self._cluster.lose_leader()

    def stop(self) -> None:
        """Kill all members: streams break, calls fail at once, and no lease expires."""
        self._cluster.lose_leader()
        for member in self.members:
            member.kill()

    def start(self) -> None:
        """Start all members again, with their data, under a new leader."""
        for member in self.members:
            member.recover()
        self._cluster.elect()

    def restore(self, snapshot: Snapshot, *, raft_term: int = 2, cluster_id: int | None = None) -> None:
        """Restore a backup: the revision and the raft term go back. The backup's leases exist with their full TTL."""
        if cluster_id is not None:
            self._cluster.cluster_id = cluster_id
        self._cluster.replace(snapshot.store.copy(), snapshot.lessor.copy(), raft_term=raft_term)

    def wipe(self, *, raft_term: int = 2, cluster_id: int | None = None) -> None:
        """Delete all data and restart. Like a real etcd, it keeps its ids, unless a cluster id is given."""
        self.restore(Snapshot(Store(), self._empty), raft_term=raft_term, cluster_id=cluster_id)

    def _delete(self, delete: DeleteRange) -> int:
        result = self._do(delete).results[0]
        assert isinstance(result, DeleteRangeResult)
        return result.deleted

    def _do(self, operation: Put | DeleteRange) -> TxnResult:
        return self._cluster.txn(Txn((), (operation,), ()), self.members[0].header)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
