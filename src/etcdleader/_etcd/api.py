"""The port to etcd: the few calls that an election needs, in etcd's own terms.

All code above this layer reaches etcd through :class:`EtcdApi` only. So a fake of the port is a small etcd rather than
a small election. ``client.EtcdClient`` implements the port. ``etcdleader.testing.FakeEtcd`` is a network for that
client, and implements the port through it.

Rules for an implementation:

- All reads are linearizable, so that no decision depends on a lagging member. Only ``member_raft_term`` is serializable;
  its result is a lower bound.
- A call raises ``EtcdUnavailableError`` if its outcome is unknown: no response in time, no leader, a broken stream, or
  no space.
- A call raises ``EtcdRefusedError`` if etcd or TLS refuses it: authentication, permissions, certificates.
- The only other errors are ``LeaseExistsError`` and ``LeaseNotFoundError``.
- ``timeout`` is in seconds and bounds the whole call.
- Calls may be cancelled at any time. A request that was already sent may still take effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from ..errors import EtcdLeaderError


class LeaseExistsError(EtcdLeaderError):
    """The error of a grant that names a lease id which is already in use."""


class LeaseNotFoundError(EtcdLeaderError):
    """The error of a put, revocation or query that names a lease which etcd does not have."""


class Header(NamedTuple):
    """The header of a response.

    Attributes:
        cluster_id: The cluster's id. It stays the same if the cluster is wiped and created again.
        member_id: The id of the member that responded.
        revision: The store's revision. In the response to a keep-alive or a watch it is a lower bound, because that
            member may lag.
        raft_term: The term of the last raft entry that the member has applied. It is a lower bound of the current term.
            A member that has caught up by a snapshot keeps the earlier term. A restarted member reports 0 until it
            applies an entry.
    """

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


class KeyValue(NamedTuple):
    """A stored key. ``lease`` is 0 if the key has no lease. A DELETE event sets only ``key`` and ``mod_revision``."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


class Compare(NamedTuple):
    """One condition of a transaction. The revisions, the version and the lease of a missing key compare as 0."""

    key: bytes
    target: Literal["create", "mod", "version", "lease", "value"]
    value: int | bytes
    result: Literal["=", "!=", "<", ">"] = "="


class Range(NamedTuple):
    """A read of ``key``, or of ``[key, range_end)`` if ``range_end`` is given. ``limit`` 0 means all keys.

    ``order`` sorts by create_revision; None keeps etcd's order, by key. ``keys_only`` leaves out the values, and on
    etcd 3.7 the leases too. Code that uses it must not rely on either.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    order: Literal["create-ascending", "create-descending"] | None = None
    max_create_revision: int = 0
    keys_only: bool = False


class Put(NamedTuple):
    """A write of ``key``. ``ignore_value`` and ``ignore_lease`` keep the stored value or lease; the key must exist."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    ignore_value: bool = False
    ignore_lease: bool = False


class DeleteRange(NamedTuple):
    """A deletion of ``key``, or of ``[key, range_end)`` if ``range_end`` is given."""

    key: bytes
    range_end: bytes = b""


class Txn(NamedTuple):
    """A transaction, as a request or inside another transaction.

    If every condition holds, etcd runs ``success``, otherwise ``failure``.
    """

    compare: Compares
    success: Operations
    failure: Operations


Operation: TypeAlias = Range | Put | DeleteRange | Txn
Compares: TypeAlias = Sequence[Compare]
Operations: TypeAlias = Sequence[Operation]

EMPTY_TXN = Txn((), (), ())
"""An operation that changes nothing and has no result. It must be the last one of its branch.

If either branch of a Txn of reads contains it, etcd does not treat the Txn as read-only, and proposes it to raft."""


@dataclass(frozen=True, slots=True)
class RangeResult:
    """The result of a read. ``count`` is the number of keys in the range, regardless of ``limit``.

    etcd counts the keys before it applies ``max_create_revision``.
    """

    kvs: tuple[KeyValue, ...]
    count: int
    header: Header


@dataclass(frozen=True, slots=True)
class PutResult:
    """The result of a put that was applied."""


@dataclass(frozen=True, slots=True)
class DeleteRangeResult:
    """The number of keys that were deleted."""

    deleted: int


class TxnResult(NamedTuple):
    """The result of a transaction. ``results`` has one entry for each operation of the executed branch, in order."""

    succeeded: bool
    results: tuple[Result, ...]
    header: Header


Result: TypeAlias = RangeResult | PutResult | DeleteRangeResult | TxnResult


class LeaseGranted(NamedTuple):
    """A granted lease. ``ttl`` is the granted one, in whole seconds: etcd raises small values to its minimum."""

    lease_id: int
    ttl: int
    header: Header


class KeepAlive(NamedTuple):
    """The response to one keep-alive. If ``ttl`` is 0 or less, etcd does not have the lease (any more)."""

    lease_id: int
    ttl: int
    header: Header


class KeepAliveResponses(dict[int, KeepAlive]):
    """The responses to keep-alives, by lease.

    Attributes:
        errors: The error of each lease that has no response.
    """

    def __init__(self, answers: Mapping[int, KeepAlive] = {}, errors: Mapping[int, EtcdLeaderError] = {}) -> None:
        super().__init__(answers)
        self.errors = dict(errors)


class LeaseTimeToLive(NamedTuple):
    """The remaining time of a lease. ``ttl`` is in whole seconds, and -1 if etcd does not have the lease."""

    lease_id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...]
    header: Header


class MemberStatus(NamedTuple):
    """The status of the member in use. ``leader`` is the member id of the raft leader, 0 if there is none."""

    version: str
    leader: int
    header: Header


class WatchEvent(NamedTuple):
    """One change of one key."""

    type: Literal["put", "delete"]
    kv: KeyValue


class WatchCreated(NamedTuple):
    """The watch was created. Every event with a mod_revision above ``revision`` will be delivered.

    It is delivered once when the watch is created. After each break of the stream, it is delivered again with
    ``resumed`` set. The watch then continues from the revision after the last complete one.
    """

    revision: int
    resumed: bool = False


class WatchEvents(NamedTuple):
    """A message of events in order of revision. A revision is never split over two messages."""

    events: tuple[WatchEvent, ...]


@dataclass(frozen=True, slots=True)
class WatchBroken:
    """The watch's stream broke. The client is opening a new one.

    ``WatchCreated(resumed=True)`` or another ``WatchBroken`` follows, unless etcd cancels the watch.
    """

    error: EtcdLeaderError


@dataclass(frozen=True, slots=True)
class WatchCanceled:
    """The last message of a watch: etcd ended it, or refused to create it.

    ``compact_revision`` is 0 unless the revision to continue from was compacted.
    """

    error: EtcdLeaderError
    compact_revision: int = 0


WatchMessage: TypeAlias = WatchCreated | WatchEvents | WatchBroken | WatchCanceled
WatchSink: TypeAlias = Callable[[WatchMessage], None]
"""Receives a watch's messages in order, on the event loop. It must return promptly and must not raise.

It is never called from inside ``watch()`` itself, and never after ``close()``."""


class WatchHandle(Protocol):
    """A handle to a requested watch."""

    def close(self) -> None:
        """End the watch without waiting. The sink is not called again."""


class Txns(Protocol):
    """The transactions of a connection, for code that needs no other call."""

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        """Run ``success`` if every condition holds, otherwise ``failure``, atomically.

        Read-only transactions are linearizable.

        Raises:
            LeaseNotFoundError: A put named a lease that etcd does not have. The transaction changed nothing.
        """
        ...


@runtime_checkable
class EtcdApi(Txns, Protocol):
    """One connection to one etcd cluster, on one event loop."""

    @property
    def uniform(self) -> Callable[[float, float], float]:
        """The source of random numbers: it returns one between its arguments.

        All users of the connection draw their pauses from it, so one seed can determine a whole run.
        """
        ...

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        """Grant a lease of ``ttl`` seconds under an id that the caller chooses.

        Raises:
            LeaseExistsError: The id is in use, perhaps by an earlier attempt whose response was lost.
        """
        ...

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        """Revoke a lease, which deletes its keys in the same commit.

        Raises:
            LeaseNotFoundError: etcd does not have the lease.
        """
        ...

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        """Send one keep-alive for each lease, back to back on one stream, and collect the responses.

        A response is credited to the oldest unanswered keep-alive of its lease on that stream. A lease must not be in two
        calls at once.

        - If etcd does not respond for a lease within ``timeout``, the stream ends, and later responses on it do not count.
        - If the call is cancelled while it waits, the stream ends too.
        - If etcd refuses one lease, only that lease fails. The remaining keep-alives are sent again.
        - If the token is stale, the client logs in again. The call does not fail for that.

        Returns:
            The responses, and the error of each lease that has none.

        Raises:
            EtcdLeaderError: No lease has a response, and all have the same error.
        """
        ...

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False, timeout: float) -> LeaseTimeToLive:
        """Return the remaining time of a lease, and its keys if ``keys`` is set."""
        ...

    async def member_status(self, *, timeout: float) -> MemberStatus:
        """Return the status of the member in use. It proves nothing, because the member may lag."""
        ...

    async def member_raft_term(self, key: bytes, *, timeout: float) -> int:
        """Return the raft term of the member in use, by a serializable read of ``key``, which needs no consensus.

        The result is a lower bound of the current term, and 0 if the member has recorded none.
        """
        ...

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        """Read keys, linearizably."""
        ...

    def watch(
        self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0, sink: WatchSink, timeout: float
    ) -> WatchHandle:
        """Watch ``key`` or ``[key, range_end)``, from now on or from ``start_revision``. Return immediately.

        If etcd does not respond to a creation within ``timeout``, the client opens a new stream. If the stream receives no
        message for ``timeout``, the client sends a progress request. If no message arrives within another ``timeout``, the
        client opens a new stream. The watch survives broken streams until it is closed or canceled.
        """
        ...

    @property
    def endpoint_number(self) -> int:
        """The endpoint in use, as a number that rises with each switch."""
        ...

    def report_endpoint_failure(self, used: int) -> None:
        """Switch to the next endpoint because a call on the endpoint ``used`` failed.

        A client with one endpoint opens a new connection to it instead. The next calls go there, and the streams are
        opened there again. Calls in progress continue.

        The call is a no-op in these cases:

        - The client has already left that endpoint. Many callers may report the same failure.
        - The last switch was a moment ago, and no endpoint has responded since.
        - The only endpoint still sends data. The client keeps it a moment longer.

        Broken streams report their endpoint automatically.
        """
        ...

    def on_version(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the version of the member in use.

        The first call comes some seconds after the member's first response. Another call follows each switch to a member
        with a different version. Only the first listener is called, because the version concerns all users alike.
        """
        ...

    def on_header(self, listener: Callable[[Header], None]) -> None:
        """Call ``listener`` with the header of each response from the cluster, before the response is delivered.

        It replaces the earlier listener. It is called on the event loop, must return promptly, and must not raise.
        """
        ...

    async def aclose(self) -> None:
        """End the streams and close the connection. Calls in progress fail with ``EtcdUnavailableError``."""
        ...
