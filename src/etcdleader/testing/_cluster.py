"""What the members of a fake etcd share: the data, the leases, the raft term, and the loops that run beside."""

from __future__ import annotations

import inspect
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
from anyio.abc import TaskGroup

from .._etcd.api import (
    Compare,
    Header,
    LeaseExistsError,
    LeaseGranted,
    LeaseNotFoundError,
    Operation,
    Put,
    RangeResult,
    TxnResult,
)
from ..errors import EtcdRefusedError, EtcdUnavailableError
from ._lessor import Lessor
from ._signal import Signal
from ._store import MAX_TXN_OPS, Store

if TYPE_CHECKING:
    from ._member import Member

__all__ = ("Call", "CallKind", "Cluster", "Hook", "Snapshot")

CallKind: TypeAlias = Literal[
    "lease_grant", "lease_revoke", "lease_keep_alive", "lease_time_to_live", "range", "txn", "watch", "switch_endpoint"
]
"""The port's calls, by their names."""

_EXPIRY_PERIOD = 0.5
_CATCH_UP_PERIOD = 0.1


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as hooks see it.

    Attributes:
        client: The name of the client that sent it.
        kind: Which call.
        stage: ``"before"``: it has reached etcd and nothing is done yet. ``"after"``: done, the answer not yet sent.
        arguments: As the port has them, by position. Each lease of a keep-alive is a call of its own.
    """

    client: str
    kind: CallKind
    stage: Literal["before", "after"]
    arguments: tuple[Any, ...]


Hook: TypeAlias = Callable[[Call], Awaitable[None] | None]


@dataclass(frozen=True)
class Snapshot:
    """A backup of an etcd: its keys and leases."""

    store: Store
    lessor: Lessor


class Cluster:
    """The state that raft agrees on.

    Attributes:
        has_leader: Without one nothing is agreed on: calls wait, and no lease expires.
        no_space: The alarm NOSPACE is raised: what would need room is refused.
        changed: Sent when something changed that a waiting call may have waited for.
    """

    def __init__(self, minimum_ttl: int, election_timeout: float, seed: int) -> None:
        self.store = Store()
        self.lessor = Lessor(minimum_ttl, election_timeout)
        self.members: tuple[Member, ...] = ()
        self.cluster_id = 0xC1
        self.raft_term = 2  # what a new etcd has once it has elected its first leader
        self.has_leader = True
        self.no_space = False
        self.changed = Signal()
        self.random = random.Random(seed)
        self.calls: Counter[CallKind] = Counter()
        self.hooks: list[Hook] = []
        self._make_empty = lambda: (Store(), Lessor(minimum_ttl, election_timeout))
        self._group: TaskGroup | None = None

    # Its tasks

    async def run(self, group: TaskGroup) -> None:
        """Start what runs beside the calls."""
        self._group = group
        group.start_soon(self._expire)
        group.start_soon(self._catch_up)

    def spawn(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Run something that outlives its caller, as what was sent stays sent.

        Raises:
            RuntimeError: The fake is not open.
        """
        if self._group is None:
            raise RuntimeError("this FakeEtcd is not open: use it in `async with`")
        self._group.start_soon(function, *arguments)

    def close(self) -> None:
        """Nothing runs any more."""
        self._group = None

    async def tell_hooks(self, call: Call) -> None:
        """Let the test act at this very moment."""
        for hook in list(self.hooks):
            result = hook(call)
            if inspect.isawaitable(result):
                await result

    async def _expire(self) -> None:
        """Revoke expired leases, every half second. The loop sleeps over the rounds in which there is nothing to do,
        so that years of virtual time do not cost a wake-up for each."""
        started = anyio.current_time()
        while True:
            awaited = self.changed.next()
            next_expiry = self.lessor.next_expiry() if self.has_leader else math.inf
            with anyio.CancelScope(deadline=_next_round(started, next_expiry, _EXPIRY_PERIOD)):
                await awaited.wait()
                continue
            for lease_id in self.lessor.expired(anyio.current_time()):
                self.revoke(lease_id)

    async def _catch_up(self) -> None:
        """Serve the watches from the past, every 100 ms."""
        started = anyio.current_time()
        while True:
            await self.changed.until(lambda: any(member.watches.behind for member in self.members))
            await anyio.sleep_until(_next_round(started, anyio.current_time(), _CATCH_UP_PERIOD))
            for member in self.members:
                member.watches.catch_up(self.store, member.revision)

    # What is agreed on

    def grant(self, lease_id: int, ttl: int) -> int:
        """Grant a lease; returns its time to live.

        Raises:
            LeaseExistsError: The id is taken.
            EtcdUnavailableError: NOSPACE.
        """
        if self.no_space:
            raise _no_space()
        if lease_id in self.lessor:
            raise LeaseExistsError("etcdserver: lease already exists")
        granted = self.lessor.grant(lease_id, ttl, anyio.current_time())
        self.changed.send()
        return granted

    def revoke(self, lease_id: int) -> None:
        """Revoke a lease and delete its keys, in one revision.

        Raises:
            LeaseNotFoundError: There is none.
        """
        if lease_id not in self.lessor:
            raise LeaseNotFoundError("etcdserver: requested lease not found")
        self.lessor.revoke(lease_id)
        with self._committing():
            self.store.delete_keys_on(lease_id, anyio.current_time())
