"""Who shares which connection, and the task that keeps its leases alive.

Users with an equal client, on one event loop in one process, share one connection: one channel, one stream of each
kind, one ticker. It is opened for its first user and closed when the last one leaves.
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
from .._runtime.fork import AtFork, in_child, process_id
from .._runtime.limiter import FairLimiter
from .._runtime.tasks import spawn
from ..errors import EtcdLeaderError, EtcdRefusedError
from .batched_reads import Reads
from .moves import Moves
from .raft_terms import RaftTerms
from .renewer import Renewals
from .watermark import Watermark

__all__ = ("Connection", "connect")

T = TypeVar("T")

_AT_A_TIME = 64
"""Calls at a time: enough to keep etcd busy, and few enough for each to be answered soon. Renewals are not among them."""
_CLOSING = 1.0
"""Seconds that the renewals get to end."""


class Connection:
    """etcd as the managers of one loop share it: the port, with its linearizable answers held against the highest
    revision known, and the renewals.

    Attributes:
        revisions: The highest revision known.
        raft_terms: The highest raft term known.
        renewals: Keep leases alive.
        moves: Move keys to other leases.
        turns: Limits the calls that are under way at a time, renewals apart.
        reads: Batches linearizable reads, within those turns.
    """

    def __init__(self, api: EtcdApi, *, owned: bool) -> None:
        self.api = api
        self.revisions = Watermark()
        self.raft_terms = RaftTerms()
        self.renewals = Renewals(self)
        self.turns = FairLimiter(_AT_A_TIME)
        self.moves = Moves(self)
        self.reads = Reads(lambda requests, timeout: self.txn((), requests, timeout=timeout), self.turns)
        self.users = 0
        self._owned = owned
        self._process = process_id()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._learning = anyio.Lock()
        api.on_header(self._received)

    def _received(self, header: Header) -> None:
        if self.raft_terms.received(header.raft_term):
            # etcd has another leader: keys move to leases that no earlier leader of etcd knows.
            self.renewals.look_at_all()

    def history_was_replaced(self, raft_term: int) -> None:
        """An answered proposal, and the read after it, were in a lower raft term than the one known before."""
        self.raft_terms.history_was_replaced(raft_term)
        self.renewals.look_at_all()

    async def learn_raft_term(self, key: bytes, *, timeout: float) -> None:
        """Ask for a raft term, unless one is known. Without one, a lease is trusted for its first time to live only."""
        if not self.raft_terms.known:
            async with self._learning:  # thousands begin at once, and one of them asks
                if not self.raft_terms.known:
                    with suppress(EtcdRefusedError):  # no permission to read: later responses have a term, too
                        await self._asked(self.api.member_raft_term(key, timeout=timeout))

    async def propose(self, key: bytes, *, timeout: float) -> Header:
        """Propose a Txn that changes nothing. When etcd responds, the member has applied an entry of the term in force.

        It makes no revision and no event, and needs no space. ``key`` is one that the user may write.
        """
        never = Compare(key, "version", 0, "<")
        return (await self.txn([never], [DeleteRange(key)], (), timeout=timeout)).header

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        """``EtcdApi.lease_grant``."""
        return await self._asked(self.api.lease_grant(ttl, lease_id, timeout=timeout))

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        """``EtcdApi.lease_revoke``."""
        return await self._asked(self.api.lease_revoke(lease_id, timeout=timeout))

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        """``EtcdApi.range``, which also raises EtcdRegressedError."""
        known = self.revisions.known()
        result = await self._asked(self.api.range(request, timeout=timeout))
        self.revisions.check(result.header.cluster_id, result.header.revision, known)
        return result

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        """``EtcdApi.txn``, which also raises EtcdRegressedError."""
        known = self.revisions.known()
        result = await self._asked(self.api.txn(compare, success, failure, timeout=timeout))
        self.revisions.check(result.header.cluster_id, result.header.revision, known)
        return result

    async def _asked(self, call: Awaitable[T]) -> T:
        """What a call brings. When it fails by its member's fault, whoever asks next asks another one."""
        used = self.api.endpoint
        try:
            return await call
        except EtcdLeaderError as error:
            if error._elsewhere:  # noqa: SLF001 - of this package
                self.api.switch_endpoint(used)
            raise

    @property
    def inherited(self) -> bool:
        """Whether it is the connection of the process that this one was forked from: its leases are none of ours."""
        return self._process != process_id()

    def start(self) -> None:
        """Start the task of the renewals. No manager's task can own it: each may leave before the others."""
        spawn(self._run, "etcdleader renewals", self._ended.set)

    async def _run(self) -> None:
        with self._scope:
            await self.renewals.run()

    async def aclose(self) -> None:
        """End the renewals and the moves, then the connection, unless it is the user's."""
        self._scope.cancel()
        await self.moves.aclose()
        with anyio.move_on_after(_CLOSING):  # a call that hears no cancellation must not hold up whoever stops
            await self._ended.wait()
        if self._owned:
            await self.api.aclose()


_Key = tuple[tuple[int, int], anyio.lowlevel.EventLoopToken, Hashable]

_connections: dict[_Key, Connection] = {}
_parents: list[object] = []
"""What a forked child inherited. It is kept, untouched: to free or close gRPC's objects, of a user's own client, can hang the
child there, or speak to etcd in the parent's name."""


def _forked() -> None:
    global _connections  # noqa: PLW0603 - the only state of the module, and a fork replaces it
    _parents.append(_connections)
    _connections = {}


in_child(AtFork.CONNECTIONS, _forked)


class connect:  # noqa: N801 - it reads as what it does
    """Use the connection to the etcd that ``key`` stands for, opening it if nobody on this loop does already."""

    # No generator: every campaign is in such a block for as long as it runs.
    __slots__ = ("_connection", "_key", "_open_api", "_owned", "_place")

    def __init__(self, key: Hashable, open_api: Callable[[], EtcdApi], *, owned: bool) -> None:
        """Nothing is opened yet.

        Args:
            key: What is equal for those who may share.
            open_api: Makes the port, without waiting.
            owned: Whether it is closed when the last user leaves.
        """
        self._key = key
        self._open_api = open_api
        self._owned = owned

    async def __aenter__(self) -> Connection:
        """The connection."""
        self._place = place = (process_id(), anyio.lowlevel.current_token(), self._key)
        connection = _connections.get(place)
        if connection is None:
            connection = _connections[place] = Connection(self._open_api(), owned=self._owned)
            connection.start()
        connection.users += 1
        self._connection = connection
        return connection

    async def __aexit__(self, *_: object) -> None:
        """Close it, if nobody else uses it."""
        connection = self._connection
        connection.users -= 1
        if connection.users == 0 and not connection.inherited:
            del _connections[self._place]
            with anyio.CancelScope(shield=True):
                await connection.aclose()
