"""What an operator asks of elections: who stands in which queue, and that a leader steps down. It needs no candidacy.

All that is decided here comes from linearizable reads; a watch only says when to read again.
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
from .._lease.connection import Connection, connect
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .queue import election_prefix, prefix_end
from .watched_range import WatchedRange

__all__ = (
    "ANY_KEY",
    "Candidate",
    "Changes",
    "Queue",
    "ask_to_step_down",
    "connected",
    "delete_key",
    "find_elections",
    "gather",
    "oddities",
    "open_api",
    "read_queue",
    "wait_until_gone",
)

S = TypeVar("S")
T = TypeVar("T")

_PAGE = 1000
"""Keys in one answer of a search."""
_MAX_TXN_OPS = 128
"""etcd's own bound on the operations of one transaction (``--max-txn-ops``)."""
_NAMED = re.compile(rb".+/[1-9a-f][0-9a-f]{0,15}", re.DOTALL)
"""What a key is called that is named after a lease: its own, or the one that it had before it moved."""
_AT_ONCE = 16
"""Calls under way."""
_PAUSE = 0.2
ANY_KEY = b"etcdleader"
"""To be read where only the answer counts: etcd agrees on a read before it looks at permissions."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key in the queue of an election, whoever put it there.

    Attributes:
        identity: Its value, as text.
        token: Its create_revision.
        key: Its name.
        lease_id: 0 when it has none.
        lease_ttl: Seconds that the lease was granted for; None when there is no lease, or it may not be known.
        lease_left: Seconds until the lease runs out, unless it is renewed.
        oddities: What is not as it is with a candidate of any of the known libraries.
    """

    identity: str
    token: int
    key: bytes
    lease_id: int
    lease_ttl: int | None
    lease_left: int | None
    oddities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """An election, as one read showed it.

    Attributes:
        election: Its name.
        revision: Of the read.
        candidates: In order: the first one leads.
    """

    election: str
    revision: int
    candidates: tuple[Candidate, ...]

    @property
    def leader(self) -> Candidate | None:
        """Who leads."""
        return self.candidates[0] if self.candidates else None


@asynccontextmanager
async def connected(config: EtcdConfig, *, timeout: float | None) -> AsyncIterator[Connection]:
    """A connection, for as long as the block lasts, to the first member that can be asked.

    Args:
        config: Where etcd is.
        timeout: How long to wait for all of the members together, if none answers; None: do not ask first.

    Raises:
        EtcdUnavailableError: None answered.
    """
    async with connect(config, lambda: open_api(config), owned=True) as connection:
        if timeout is not None:
            await _find_member(connection.api, len(config.endpoints), timeout)
        yield connection


async def _find_member(api: EtcdApi, members: int, timeout: float) -> None:
    """Whoever campaigns asks again elsewhere by itself; a command asks once, and must not ask who is down."""
    for left in range(members, 0, -1):
        used = api.endpoint
        try:
            await api.range(Range(ANY_KEY, keys_only=True), timeout=timeout / members)
        except EtcdLeaderError as error:
            if not error._elsewhere:  # noqa: SLF001 - of this package
                return  # such as a permission: the answer to the real question says more
            if left == 1:
                raise
            api.switch_endpoint(used)
        else:
            return


def open_api(config: EtcdConfig) -> EtcdApi:
    """The port, without anything around it. To be closed."""
    from .._etcd.client import new_client

    return new_client(config)


async def read_queue(connection: Connection, election: str, *, timeout: float, most: int | None = None) -> Queue:
    """The queue, with what is left of each lease.

    Args:
        connection: Where to ask.
        election: Which one.
        timeout: Of each call.
        most: How many leases are asked about, from the first on; by default all.
    """
    prefix = election_prefix(election)
    result = await connection.range(Range(prefix, prefix_end(prefix), order="create-ascending"), timeout=timeout)
    unknown = [_candidate(election, kv) for kv in result.kvs]
    asked = unknown[:most]
    known = await gather(asked, lambda one: _with_lease(connection.api, one, timeout))
    return Queue(election, result.header.revision, (*known, *unknown[len(known) :]))


def _candidate(election: str, kv: KeyValue) -> Candidate:
    return Candidate(
        identity=kv.value.decode(errors="replace"),
        token=kv.create_revision,
        key=kv.key,
        lease_id=kv.lease,
        lease_ttl=None,
        lease_left=None,
        oddities=oddities(election, kv),
    )


def oddities(election: str, kv: KeyValue) -> tuple[str, ...]:
    """What an operator should know of a key in the queue. It counts all the same, in every language."""
    name = kv.key.removeprefix(election_prefix(election))
    found = []
    if kv.lease == 0:
        found.append("has no lease, so it never goes away by itself")
    if b"/" in name:
        nested = kv.key.rpartition(b"/")[0].decode(errors="replace")
        found.append(f"is a key of {nested!r}, which is nested in this election and so stands in its queue")
    elif kv.lease and not _may_be_a_candidates(election.encode(), kv):
        found.append("is not named after its lease, so no election library made it")
    if not kv.value and not found:
        found.append("has no value: a lock (as of etcdctl lock), not a candidate")
    return tuple(found)


def _may_be_a_candidates(election: bytes, kv: KeyValue) -> bool:
    """Whether an election library may have made this key, which has a lease.

    etcdleader moves a key to another lease when etcd has elected another leader, and a key keeps its name. etcd does
    not say on which lease a key was before: it shows only that the key has been put again.
    """
    if kv.key == b"%s/%x" % (election, kv.lease):
        return True
    return kv.create_revision < kv.mod_revision and _NAMED.fullmatch(kv.key) is not None


async def _with_lease(api: EtcdApi, candidate: Candidate, timeout: float) -> Candidate:
    if not candidate.lease_id:
        return candidate
    try:
        lease = await api.lease_time_to_live(candidate.lease_id, timeout=timeout)
    except EtcdRefusedError:
        return candidate  # the queue may be read, but not what is left of a lease
    if lease.ttl < 0:
        return replace(candidate, lease_left=0, oddities=(*candidate.oddities, "its lease has just run out"))
    return replace(candidate, lease_ttl=lease.granted_ttl, lease_left=lease.ttl)


async def find_elections(connection: Connection, prefix: str, *, timeout: float) -> list[str]:
    """The names of the elections under a prefix, ``""`` for all: each that has at least one key as libraries name them.

    A key without such company cannot be told from one that has nothing to do with elections.
    """
    # In two steps, since a prefix may hold large values: names first, then the few keys whose names could be a lease's.
    # etcd 3.7 leaves the lease out of an answer with keys only.
    begin = prefix.encode() or b"\0"
    end = prefix_end(prefix.encode()) if prefix else b"\0"
    found: set[bytes] = set()
    while True:
        result = await connection.range(Range(begin, end, limit=_PAGE, keys_only=True), timeout=timeout)
        named = [kv.key for kv in result.kvs if _NAMED.fullmatch(kv.key)]
        for first in range(0, len(named), _MAX_TXN_OPS):
            found |= await _elections_of(connection, named[first : first + _MAX_TXN_OPS], timeout)
        if len(result.kvs) >= result.count:
            return sorted(election.decode(errors="replace") for election in found)
        begin = result.kvs[-1].key + b"\0"


async def _elections_of(connection: Connection, keys: Sequence[bytes], timeout: float) -> set[bytes]:
    """The elections in which one of these keys is a candidate's."""
    result = await connection.txn([], [Range(key) for key in keys], timeout=timeout)
    found: set[bytes] = set()
    for one in result.results:
        assert isinstance(one, RangeResult)
        for kv in one.kvs:
            election = kv.key.rpartition(b"/")[0]
            if kv.lease and _may_be_a_candidates(election, kv):
                found.add(election)
    return found


async def gather(items: Sequence[S], call: Callable[[S], Awaitable[T]]) -> list[T]:
    """What the call brings for each item, made beside each other, but not too many.

    Raises:
        EtcdLeaderError: The first that one of them raised, in their order.
    """
    limit = anyio.CapacityLimiter(_AT_ONCE)
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
    """A watch that says when to read again, and why the newest change may not be told."""

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
        """Wait until something has changed, or may have, since the last wait ended."""
        await self._changed.wait()
        self._changed = anyio.Event()
        await WatchedRange.open_all(self._watched)

    def _received(self, message: WatchMessage) -> None:
        del message  # whatever it says, a read says more
        self._changed.set()


def _stands(candidate: Candidate) -> list[Compare]:
    return [Compare(candidate.key, "create", candidate.token)]


async def ask_to_step_down(connection: Connection, leader: Candidate, *, timeout: float) -> bool:
    """Touch the leader's key, which etcdleader answers by resigning. False: the key is gone, or another one by now."""
    touch = Put(leader.key, ignore_value=True, ignore_lease=True)
    return (await connection.txn(_stands(leader), [touch], timeout=timeout)).succeeded


async def delete_key(connection: Connection, leader: Candidate, *, timeout: float) -> bool:
    """Delete the leader's key. False: it was gone, or another one by now, and nothing was done."""
    return (await connection.txn(_stands(leader), [DeleteRange(leader.key)], timeout=timeout)).succeeded


async def wait_until_gone(connection: Connection, leader: Candidate, *, timeout: float) -> None:
    """Wait until a read shows that the key of this candidacy is gone. ``timeout`` is of each call; there is no other."""
    with Changes(connection.api, leader.key, timeout=timeout) as changes:
        while True:
            try:
                found = (await connection.range(Range(leader.key), timeout=timeout)).kvs
            except EtcdUnavailableError:
                await anyio.sleep(_PAUSE)
                continue
            if not found or found[0].create_revision != leader.token:
                return
            await changes.wait()
