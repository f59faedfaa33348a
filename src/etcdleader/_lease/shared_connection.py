"""The connection to etcd that managers share: pooled, checks revisions, renews leases and moves keys.

Users with an equal client share one connection per event loop and process. It has one watch stream, one keep-alive stream
and one task that renews leases. The pool opens a connection for its first user and closes it when the last user leaves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.lowlevel

from .._etcd.api import (
    Compare,
    Compares,
    DeleteRange,
    EtcdApi,
    Header,
    LeaseGranted,
    Operations,
    Range,
    RangeResult,
    TxnResult,
)
from .._runtime.fork import AtFork, on_fork, process_id
from .._runtime.limiter import FairLimiter
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError
from .batched_reads import BatchedReads
from .key_mover import KeyMover
from .raft_terms import RaftTerms
from .renewer import LeaseRenewer
from .watermark import Watermark

T = TypeVar("T")

_CONCURRENT_CALLS = 64
"""Concurrent calls: enough to keep etcd busy, few enough for prompt responses. Renewals are not counted."""
_CLOSE_TIMEOUT_SECONDS = 1.0
"""Seconds within which the renewals must end when the connection closes."""


class SharedConnection:
    """The connection to etcd that the managers of one event loop share.

    It calls the port, checks the revision of each linearizable response, and runs the renewals and the moves.

    Attributes:
        revisions: The highest revision received, by cluster.
        raft_terms: The highest raft term received.
        renewer: Renews the leases.
        mover: Moves keys to other leases.
        call_limiter: Limits the concurrent calls. Renewals do not count.
        reads: Batches linearizable reads, within the limit of ``call_limiter``.
        uniform: The port's source of random numbers, for all pauses of the users.
    """

    def __init__(self, api: EtcdApi, *, owned: bool) -> None:
        self.api = api
        self.uniform = api.uniform
        self.revisions = Watermark()
        self.raft_terms = RaftTerms()
        self.renewer = LeaseRenewer(self)
        self.call_limiter = FairLimiter(_CONCURRENT_CALLS)
        self.mover = KeyMover(self)
        self.reads = BatchedReads(lambda requests, timeout: self.txn((), requests, timeout=timeout), self.call_limiter)
        self.users = 0
        self._owned = owned
        self._process = process_id()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._learning = anyio.Lock()
        api.on_header(self._received)

    def _received(self, header: Header) -> None:
        if self.raft_terms.received(header.raft_term):
            # etcd has another leader: keys move to leases of which no earlier leader of etcd has a record.
            self.renewer.check_all_soon()

    def history_was_replaced(self, raft_term: int) -> None:
        """Start a new history of raft terms: an answered proposal and its read had a lower term than one known before."""
        self.raft_terms.history_was_replaced(raft_term)
        self.renewer.check_all_soon()

    async def learn_raft_term(self, key: bytes, *, timeout: float) -> None:
        """Read a raft term unless one is known. Without one, a lease is trusted for its first TTL only."""
        if not self.raft_terms.known:
            async with self._learning:  # thousands of callers may start at once; only one of them reads
                if not self.raft_terms.known:
                    with suppress(EtcdRefusedError):  # no permission to read: later responses contain a term as well
                        await self._call(self.api.member_raft_term(key, timeout=timeout))

    async def propose(self, key: bytes, *, timeout: float) -> Header:
        """Propose a Txn that changes nothing. When etcd responds, the member has applied an entry of the current raft term.

        The Txn creates no revision and no event, and needs no space. The user must be allowed to write ``key``.
        """
        never = Compare(key, "version", 0, "<")
        return (await self.txn([never], [DeleteRange(key)], (), timeout=timeout)).header

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        """Call ``EtcdApi.lease_grant``."""
        return await self._call(self.api.lease_grant(ttl, lease_id, timeout=timeout))

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        """Call ``EtcdApi.lease_revoke``."""
        return await self._call(self.api.lease_revoke(lease_id, timeout=timeout))

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        """Call ``EtcdApi.range``. Raise EtcdRegressedError if the revision of the response is too low."""
        known = self.revisions.known()
        result = await self._call(self.api.range(request, timeout=timeout))
        self.revisions.check(result.header.cluster_id, result.header.revision, known)
        return result

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        """Call ``EtcdApi.txn``. Raise EtcdRegressedError if the revision of the response is too low."""
        known = self.revisions.known()
        result = await self._call(self.api.txn(compare, success, failure, timeout=timeout))
        self.revisions.check(result.header.cluster_id, result.header.revision, known)
        return result

    async def _call(self, call: Awaitable[T]) -> T:
        """Await a call. If the failure may be limited to one member, the next call goes to another endpoint."""
        used = self.api.endpoint_number
        try:
            return await call
        except EtcdLeaderError as error:
            if error.retry_other_endpoint:
                self.api.report_endpoint_failure(used)
            raise

    @property
    def is_forked(self) -> bool:
        """True if this process was forked after the connection was made. The leases belong to the parent process."""
        return self._process != process_id()

    def start(self) -> None:
        """Start the task of the renewals. No manager's task can own it, because any manager may leave before the others."""
        spawn_system_task(self._run, "etcdleader renewals", self._ended.set)

    async def _run(self) -> None:
        with self._scope:
            await self.renewer.run()

    async def aclose(self) -> None:
        """End the renewals and the moves. Then close the port, unless the user has passed it."""
        self._scope.cancel()
        await self.mover.aclose()
        with anyio.move_on_after(_CLOSE_TIMEOUT_SECONDS):  # a call that ignores cancellation must not delay the caller
            await self._ended.wait()
        if self._owned:
            await self.api.aclose()


_Key = tuple[tuple[int, int], anyio.lowlevel.EventLoopToken, Hashable]

_pool: dict[_Key, SharedConnection] = {}
_parents: list[object] = []
"""The connections that a forked child inherited. They are kept alive and never used.

A user's client may have gRPC objects. Freeing or closing them can hang the child, or send requests in the parent's name.
"""


def _forked() -> None:
    global _pool  # noqa: PLW0603 - the pool, which a fork replaces
    _parents.append(_pool)
    _pool = {}


on_fork(AtFork.CONNECTIONS, _forked)


class acquire_connection:  # noqa: N801 - it is used like a function
    """A context manager that uses the connection for ``key``. The first user on this event loop opens the connection."""

    # This is a class, because a generator takes more memory, and each running campaign holds one of these blocks.
    __slots__ = ("_connection", "_key", "_open_api", "_owned", "_pool_key")

    def __init__(self, key: Hashable, open_api: Callable[[], EtcdApi], *, owned: bool) -> None:
        """Open no connection yet.

        Args:
            key: Identifies the connection. Users with an equal key share it.
            open_api: Makes the port, without waiting.
            owned: True to close the port when the last user leaves.
        """
        self._key = key
        self._open_api = open_api
        self._owned = owned

    async def __aenter__(self) -> SharedConnection:
        """Return the connection."""
        self._pool_key = place = (process_id(), anyio.lowlevel.current_token(), self._key)
        connection = _pool.get(place)
        if connection is None:
            connection = _pool[place] = SharedConnection(self._open_api(), owned=self._owned)
            connection.start()
        connection.users += 1
        self._connection = connection
        return connection

    async def __aexit__(self, *_: object) -> None:
        """Close the connection if it has no other users."""
        connection = self._connection
        connection.users -= 1
        if connection.users == 0 and not connection.is_forked:
            del _pool[self._pool_key]
            with anyio.CancelScope(shield=True):
                await connection.aclose()
