"""An operator's view of elections and their queues, and requests that a leader step down. It needs no candidacy.

All decisions here come from linearizable reads. A watch only shows when to read again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

import anyio

from .._etcd.api import (
    Compare,
    DeleteRange,
    EtcdApi,
    KeyValue,
    Put,
    Range,
    RangeResult,
    WatchMessage,
)
from .._lease.shared_connection import SharedConnection, acquire_connection
from .._values.addresses import most_tries
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .candidate_value import decode_value, is_candidate
from .queue import election_prefix, prefix_end
from .watched_range import WatchedRange

S = TypeVar("S")
T = TypeVar("T")

_KEYS_PER_PAGE = 1000
"""Keys in one response of a search."""
_MAX_TXN_OPS = 128
"""etcd's limit on the operations of one Txn (``--max-txn-ops``)."""
_NAMED = re.compile(rb".+/[1-9a-f][0-9a-f]{0,15}", re.DOTALL)
"""The pattern of a key that is named after a lease: its current one, or the one before a move."""
_CONCURRENT_CALLS = 16
"""Concurrent calls."""
_POLL_SECONDS = 0.2
ANY_KEY = b"etcdleader"
"""A key to read if only the response matters: etcd reaches consensus on a read before it checks permissions."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key in an election's queue, put by any client.

    Attributes:
        identity: The identity in the value of the key, or the value as text.
        token: The create_revision of the key.
        key: The name of the key.
        lease_id: The lease that the key is on; 0 if there is none.
        lease_ttl: The TTL of the lease in seconds; None without a lease, after its expiry, or if it was not read.
        lease_left: The seconds until the lease expires, unless it is renewed; 0 after its expiry, None if unknown.
        anomalies: The differences from a candidate of a known election library, as texts for operators.
        advertised: The advertised value; None if there is none.
    """

    identity: str
    token: int
    key: bytes
    lease_id: int
    lease_ttl: int | None
    lease_left: int | None
    anomalies: tuple[str, ...]
    advertised: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """An election, as one read showed it.

    Attributes:
        election: The name of the election.
        revision: The revision of the read.
        candidates: The candidates in order. The first one leads.
    """

    election: str
    revision: int
    candidates: tuple[Candidate, ...]

    @property
    def leader(self) -> Candidate | None:
        """The leader; None if the queue is empty."""
        return self.candidates[0] if self.candidates else None


@asynccontextmanager
async def connected(config: EtcdConfig, *, timeout: float | None) -> AsyncIterator[SharedConnection]:
    """Return a context manager for a connection to the first member that responds.

    Args:
        config: The endpoints and credentials of etcd.
        timeout: The seconds to wait for all members together if none responds; None to skip this check.

    Raises:
        EtcdUnavailableError: No member responded.
    """
    async with acquire_connection(config, lambda: open_api(config), owned=True) as connection:
        if timeout is not None:
            await _find_member(connection.api, most_tries(config.endpoints), timeout)
        yield connection


async def _find_member(api: EtcdApi, members: int, timeout: float) -> None:
    """Select a member that responds.

    A campaign retries on other endpoints automatically. A command sends each request once, so it must not send it to a
    member that is down.
    """
    for left in range(members, 0, -1):
        used = api.endpoint_number
        try:
            await api.range(Range(ANY_KEY, keys_only=True), timeout=timeout / members)
        except EtcdLeaderError as error:
            if not error.retry_other_endpoint:
                return  # for example a missing permission: the actual request gives a better error
            if left == 1:
                raise
            api.report_endpoint_failure(used)
        else:
            return


def open_api(config: EtcdConfig) -> EtcdApi:
    """Return the port without a shared connection. The caller must close it."""
    from .._etcd.client import new_client

    return new_client(config)


async def read_queue(connection: SharedConnection, election: str, *, timeout: float, most: int | None = None) -> Queue:
    """Return the queue, with the remaining seconds of each lease.

    Args:
        connection: The connection for all calls.
        election: The name of the election.
        timeout: The timeout of each call, in seconds.
        most: The number of leases to read, beginning with the first candidate's; None for all.
    """
    prefix = election_prefix(election)
    result = await connection.range(Range(prefix, prefix_end(prefix), order="create-ascending"), timeout=timeout)
    unknown = [_candidate(election, kv) for kv in result.kvs]
    asked = unknown[:most]
    known = await gather(asked, lambda one: _with_lease(connection.api, one, timeout))
    return Queue(election, result.header.revision, (*known, *unknown[len(known) :]))


def _candidate(election: str, kv: KeyValue) -> Candidate:
    identity, advertised = decode_value(kv.value)
    return Candidate(
        identity=identity,
        token=kv.create_revision,
        key=kv.key,
        lease_id=kv.lease,
        lease_ttl=None,
        lease_left=None,
        anomalies=anomalies(election, kv),
        advertised=advertised,
    )


def anomalies(election: str, kv: KeyValue) -> tuple[str, ...]:
    """Return remarks for an operator about a key in the queue. Clients in every language count such a key as well."""
    name = kv.key.removeprefix(election_prefix(election))
    found = []
    if kv.lease == 0:
        found.append("has no lease, so etcd never deletes it: delete the key")
    if b"/" in name:
        nested = kv.key.rpartition(b"/")[0].decode(errors="replace")
        found.append(
            f"is a key of {nested!r}, which is nested in this election, so it is in this queue: rename one election"
        )
    elif kv.lease and not is_candidate(election_prefix(election), kv):
        found.append("is not named after its lease, so no election library created it")
    if not kv.value and not found:
        found.append("has no value, so it is a lock (as from etcdctl lock) and not a candidate")
    return tuple(found)


async def _with_lease(api: EtcdApi, candidate: Candidate, timeout: float) -> Candidate:
    if not candidate.lease_id:
        return candidate
    try:
        lease = await api.lease_time_to_live(candidate.lease_id, timeout=timeout)
    except EtcdRefusedError:
        return candidate  # the user may read the queue, but not the remaining time of a lease
    if lease.ttl < 0:
        return replace(
            candidate,
            lease_left=0,
            anomalies=(*candidate.anomalies, "is on a lease that has just expired, so etcd is about to delete it"),
        )
    return replace(candidate, lease_ttl=lease.granted_ttl, lease_left=lease.ttl)


async def find_elections(connection: SharedConnection, prefix: str, *, timeout: float) -> list[str]:
    """Return the names of the elections under a prefix; ``""`` for all.

    An election is found if at least one of its keys is named as election libraries name keys. Without such a key, its
    keys cannot be distinguished from keys that are unrelated to elections.
    """
    # Two steps are needed, because a prefix may have large values. The first one reads the names only. The second one
    # reads the few keys that may be named after a lease, because etcd 3.7 omits the lease from a keys-only response.
    begin = prefix.encode() or b"\0"
    end = prefix_end(prefix.encode()) if prefix else b"\0"
    found: set[bytes] = set()
    while True:
        result = await connection.range(Range(begin, end, limit=_KEYS_PER_PAGE, keys_only=True), timeout=timeout)
        named = [kv.key for kv in result.kvs if _NAMED.fullmatch(kv.key)]
        for first in range(0, len(named), _MAX_TXN_OPS):
            found |= await _elections_of(connection, named[first : first + _MAX_TXN_OPS], timeout)
        if len(result.kvs) >= result.count:
            return sorted(election.decode(errors="replace") for election in found)
        begin = result.kvs[-1].key + b"\0"


async def _elections_of(connection: SharedConnection, keys: Sequence[bytes], timeout: float) -> set[bytes]:
    """Return the elections in which one of these keys may be a candidate key."""
    result = await connection.txn([], [Range(key) for key in keys], timeout=timeout)
    found: set[bytes] = set()
    for one in result.results:
        assert isinstance(one, RangeResult)
        for kv in one.kvs:
            election, slash, _ = kv.key.rpartition(b"/")
            if is_candidate(election + slash, kv):
                found.add(election)
    return found


async def gather(items: Sequence[S], call: Callable[[S], Awaitable[T]]) -> list[T]:
    """Call ``call`` for each item, with a limited number of concurrent calls. Return the results in order.

    Raises:
        EtcdLeaderError: The error of the first item, in their order, whose call failed.
    """
    limit = anyio.CapacityLimiter(_CONCURRENT_CALLS)
    results: dict[int, T] = {}
    errors: dict[int, EtcdLeaderError] = {}

    async def make(number: int, item: S) -> None:
        async with limit:
            try:
                results[number] = await call(item)
            except EtcdLeaderError as error:
                errors[number] = error

    async with anyio.create_task_group() as group:
        for number, item in enumerate(items):
            group.start_soon(make, number, item)
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]


class Changes:
    """A watch that shows when to read again. It reports that a change may have happened, but not which one."""

    def __init__(self, api: EtcdApi, key: bytes, range_end: bytes = b"", *, timeout: float) -> None:
        self._watched = WatchedRange(api, key, range_end, sink=self._received, retry=timeout)
        self._changed = anyio.Event()

    def __enter__(self) -> Self:
        self._watched.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watched.close()

    async def wait(self) -> None:
        """Wait until the range has changed, or may have changed, since the last wait ended."""
        await self._changed.wait()
        self._changed = anyio.Event()
        await WatchedRange.open_all(self._watched)

    def _received(self, message: WatchMessage) -> None:
        del message  # any message only means that the range must be read again
        self._changed.set()


def _stands(candidate: Candidate) -> list[Compare]:
    return [Compare(candidate.key, "create", candidate.token)]


async def ask_to_step_down(connection: SharedConnection, leader: Candidate, *, timeout: float) -> bool:
    """Put the leader's key without a change, to which an etcdleader responds by resigning.

    Return False, and put nothing, if the key of this candidacy no longer exists.
    """
    touch = Put(leader.key, ignore_value=True, ignore_lease=True)
    return (await connection.txn(_stands(leader), [touch], timeout=timeout)).succeeded


async def delete_key(connection: SharedConnection, leader: Candidate, *, timeout: float) -> bool:
    """Delete the leader's key. Return False, and delete nothing, if the key of this candidacy no longer exists."""
    return (await connection.txn(_stands(leader), [DeleteRange(leader.key)], timeout=timeout)).succeeded


async def wait_until_gone(connection: SharedConnection, leader: Candidate, *, timeout: float) -> None:
    """Wait until a read shows that the key of this candidacy no longer exists.

    ``timeout`` limits each call, in seconds. The whole wait has no limit.
    """
    with Changes(connection.api, leader.key, timeout=timeout) as changes:
        while True:
            try:
                found = (await connection.range(Range(leader.key), timeout=timeout)).kvs
            except EtcdUnavailableError:
                await anyio.sleep(_POLL_SECONDS)
                continue
            if not found or found[0].create_revision != leader.token:
                return
            await changes.wait()
