"""The port to etcd: the few calls that an election needs, in etcd's own words.

Everything above this layer speaks to :class:`EtcdApi` and to nothing else, so that a fake of it is a small etcd
rather than a small election. ``client.EtcdClient`` implements it; ``etcdleader.testing.FakeEtcd`` is a network for that
client, and implements the port by it.

Rules for whoever implements it:

- All reads are linearizable. Never serializable: a lagging member's answer decides nothing here.
- A call raises ``EtcdUnavailableError`` (no answer in time, no leader, stream broken, no space: the outcome is
  unknown), ``EtcdRefusedError`` (auth, permission, certificates), or one of the two errors below. Nothing else.
- ``timeout`` is in seconds and bounds the whole call.
- Calls may be cancelled at any time; what was sent stays sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from ..errors import EtcdLeaderError


class LeaseExistsError(EtcdLeaderError):
    """A grant named a lease id that is taken."""


class LeaseNotFoundError(EtcdLeaderError):
    """A put, a revocation or a question named a lease that etcd does not have."""


class Header(NamedTuple):
    """What etcd says of itself in each answer.

    Attributes:
        cluster_id: The cluster. It stays the same when the cluster is wiped and started anew.
        member_id: The member that answered.
        revision: The store's revision. Of a keep-alive or a watch it is a lower bound: that member may lag.
        raft_term: The term of the last raft entry that the member has applied: a lower bound of the term in force. A
            member that has caught up by a snapshot keeps the term from before it. One that was restarted reports 0 until
            it applies an entry.
    """

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


class KeyValue(NamedTuple):
    """A key as stored. ``lease`` is 0 when none is attached. All but ``key`` and ``mod_revision`` are unset in a
    DELETE event."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


class Compare(NamedTuple):
    """One condition of a transaction. A missing key compares as revision, version and lease 0."""

    key: bytes
    target: Literal["create", "mod", "version", "lease", "value"]
    value: int | bytes
    result: Literal["=", "!=", "<", ">"] = "="


class Range(NamedTuple):
    """Read ``key``, or ``[key, range_end)`` when ``range_end`` is given. ``limit`` 0 means all.

    ``order`` sorts by create_revision; None leaves etcd's order, by key. With ``keys_only`` values are left out, and on
    etcd 3.7 leases as well: nothing may rely on either.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    order: Literal["create-ascending", "create-descending"] | None = None
    max_create_revision: int = 0
    keys_only: bool = False


class Put(NamedTuple):
    """Store ``key``. ``ignore_value`` and ``ignore_lease`` keep what is there (the key must exist)."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    ignore_value: bool = False
    ignore_lease: bool = False


class DeleteRange(NamedTuple):
    """Delete ``key``, or ``[key, range_end)`` when ``range_end`` is given."""

    key: bytes
    range_end: bytes = b""


class Txn(NamedTuple):
    """A transaction, as a request or inside another one: if every condition holds do ``success``, else ``failure``."""

    compare: Compares
    success: Operations
    failure: Operations


Operation: TypeAlias = Range | Put | DeleteRange | Txn
Compares: TypeAlias = Sequence[Compare]
Operations: TypeAlias = Sequence[Operation]

NOTHING = Txn((), (), ())
"""An operation that changes nothing and has no result. It must be the last one of its branch.

A Txn of reads that has it in either branch is no read-only one for etcd, which proposes it to raft."""


@dataclass(frozen=True, slots=True)
class RangeResult:
    """``count`` is how many keys lie in the range, whatever ``limit`` let through; etcd counts them before it
    applies ``max_create_revision``."""

    kvs: tuple[KeyValue, ...]
    count: int
    header: Header


@dataclass(frozen=True, slots=True)
class PutResult:
    """A put was applied."""


@dataclass(frozen=True, slots=True)
class DeleteRangeResult:
    """How many keys a delete took away."""

    deleted: int


class TxnResult(NamedTuple):
    """``results`` has one entry for each operation of the branch that ran, in order."""

    succeeded: bool
    results: tuple[Result, ...]
    header: Header


Result: TypeAlias = RangeResult | PutResult | DeleteRangeResult | TxnResult


class LeaseGranted(NamedTuple):
    """``ttl`` is what etcd granted, in whole seconds: it raises small ones to its minimum."""

    lease_id: int
    ttl: int
    header: Header


class KeepAlive(NamedTuple):
    """One keep-alive's answer. ``ttl`` 0 or less means: etcd does not have the lease (any more)."""

    lease_id: int
    ttl: int
    header: Header


class KeepAliveAnswers(dict[int, KeepAlive]):
    """The answers to keep-alives, by lease.

    Attributes:
        errors: Why a lease has no answer, for each that has none.
    """

    def __init__(self, answers: Mapping[int, KeepAlive] = {}, errors: Mapping[int, EtcdLeaderError] = {}) -> None:
        super().__init__(answers)
        self.errors = dict(errors)


class LeaseTimeToLive(NamedTuple):
    """``ttl`` is what is left, in whole seconds, -1 when etcd does not have the lease."""

    lease_id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...]
    header: Header


class MemberStatus(NamedTuple):
    """What the member that is spoken to says of itself. ``leader`` is the member id of etcd's own leader, 0 for none."""

    version: str
    leader: int
    header: Header


class Event(NamedTuple):
    """One change of one key."""

    type: Literal["put", "delete"]
    kv: KeyValue


class WatchCreated(NamedTuple):
    """The watch stands: every event with a mod_revision above ``revision`` will come.

    It is said once when the watch is created, and again (``resumed``) after each break of the stream, when the watch
    was created anew from the revision after the last complete one.
    """

    revision: int
    resumed: bool = False


class WatchEvents(NamedTuple):
    """Events in order of revision. A revision is never split over two messages."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class WatchBroken:
    """The stream broke; it is being opened anew and ``WatchCreated(resumed=True)`` or another break will follow."""

    error: EtcdLeaderError


@dataclass(frozen=True, slots=True)
class WatchCanceled:
    """etcd ended this watch, or refused to create it. Nothing follows. ``compact_revision`` is 0 unless the revision to
    go on from had been compacted."""

    error: EtcdLeaderError
    compact_revision: int = 0


WatchMessage: TypeAlias = WatchCreated | WatchEvents | WatchBroken | WatchCanceled
WatchSink: TypeAlias = Callable[[WatchMessage], None]
"""Called on the event loop, in order, never from inside ``watch()`` itself, never after ``close()``.
It must return promptly and must not raise."""


class WatchHandle(Protocol):
    """A watch that was asked for."""

    def close(self) -> None:
        """End the watch, without waiting. The sink is not called again."""


class Txns(Protocol):
    """The transactions of a connection, for code that needs no other call."""

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        """If every condition holds do ``success``, else ``failure``, in one step. Read-only ones are linearizable.

        Raises:
            LeaseNotFoundError: A put named a lease that etcd does not have; nothing was done.
        """
        ...


@runtime_checkable
class EtcdApi(Txns, Protocol):
    """One connection to one etcd cluster, on one event loop."""

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        """Grant a lease of ``ttl`` seconds under an id of our choice.

        Raises:
            LeaseExistsError: The id is taken (perhaps by an earlier try whose answer was lost).
        """
        ...

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        """Revoke a lease, which deletes its keys in the same commit.

        Raises:
            LeaseNotFoundError: etcd does not have the lease.
        """
        ...

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveAnswers:
        """Send one keep-alive for each lease, back to back on the one stream, and collect the answers.

        An answer is credited to the oldest unanswered send of that lease on that stream. If etcd did not answer for a
        lease within ``timeout``, the stream is ended: what it would still bring counts for nothing. A call that is
        cancelled while it waits ends the stream likewise. If etcd refuses one lease, that one alone fails, and the rest
        is sent again. A stale token costs a new login and nothing else. A lease must not be in two calls at once.

        Returns:
            The answers, and the error of each lease that has none.

        Raises:
            EtcdLeaderError: There is no answer, and one error for all.
        """
        ...

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False, timeout: float) -> LeaseTimeToLive:
        """Ask what is left of a lease (and for the keys on it)."""
        ...

    async def member_status(self, *, timeout: float) -> MemberStatus:
        """Ask the member that is spoken to about itself. No evidence of anything: it may lag."""
        ...

    async def member_raft_term(self, key: bytes, *, timeout: float) -> int:
        """Ask the member that is spoken to for its raft term, by a serializable read of ``key``, which needs no consensus.

        The answer is a lower bound of the term in force, and 0 if the member does not know one.
        """
        ...

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        """Read, linearizably."""
        ...

    def watch(
        self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0, sink: WatchSink, timeout: float
    ) -> WatchHandle:
        """Watch ``key`` or ``[key, range_end)``, from now on or from ``start_revision``; returns at once.

        If etcd does not respond to a creation within ``timeout``, the client opens a new stream. If the stream receives no
        message for ``timeout``, the client sends a progress request. If no message arrives within another ``timeout``, the
        client opens a new stream. The watch survives broken streams until it is closed or canceled.
        """
        ...

    @property
    def endpoint(self) -> int:
        """Which endpoint is spoken to, as a number that rises with each switch."""
        ...

    def report_endpoint_failure(self, used: int) -> None:
        """What was called on the endpoint ``used`` did not answer as it should: make the next calls to another one, or
        over a new connection to the same, and open the streams anew there. Calls under way go on.

        Does nothing when that endpoint was left already: many may find out at once. It may wait a moment when no
        endpoint has answered since the last switch. Streams that break do this by themselves.
        """
        ...

    def on_version(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the version of the member that is spoken to, some seconds after its first answer, and again
        when a switch has brought another version. Only the first listener is called: the version concerns all alike."""
        ...

    def on_header(self, listener: Callable[[Header], None]) -> None:
        """Call ``listener`` with the header of each response of the cluster, before the response is delivered.

        It replaces the listener before. It is called on the event loop, must return promptly, and must not raise.
        """
        ...

    async def aclose(self) -> None:
        """End the streams and close the connection. Calls under way fail with ``EtcdUnavailableError``."""
        ...
