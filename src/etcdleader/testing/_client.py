"""One client of a fake etcd: it speaks to one member at a time, through a network in which all can go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from .._etcd.api import (
    Compare,
    Header,
    KeepAlive,
    LeaseGranted,
    LeaseTimeToLive,
    MemberStatus,
    Operation,
    Range,
    RangeResult,
    TxnResult,
    WatchHandle,
    WatchSink,
)
from ..errors import EtcdUnavailableError
from ._cluster import Call, CallKind, Cluster
from ._faults import Fault, FaultyNetwork
from ._member import FakeMember
from ._watch_stream import WatchStream

__all__ = ("FakeClient",)

T = TypeVar("T")


@dataclass(eq=False)
class _Answer(Generic[T]):
    """What becomes of one call."""

    came: anyio.Event = field(default_factory=anyio.Event)
    given_up: bool = False
    value: T | None = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.came.set()

    def succeed(self, value: T) -> None:
        self.value = value
        self.came.set()


@dataclass(eq=False)
class _KeepAliveRound:
    """One call of ``lease_keep_alive``."""

    lease_ids: tuple[int, ...]
    answers: dict[int, KeepAlive] = field(default_factory=dict)
    ended: anyio.Event = field(default_factory=anyio.Event)
    error: Exception | None = None


class FakeClient(FaultyNetwork):
    """A connection to a fake etcd, which implements the port :class:`~etcdleader._etcd.api.EtcdApi`.

    Attributes:
        name: What hooks know it by.
        endpoints: The members that it may speak to.
        calls: How many requests it has sent, by kind; each lease of a keep-alive is one, and each creation of a watch.
    """

    def __init__(self, name: str, cluster: Cluster, endpoints: Sequence[FakeMember]) -> None:
        super().__init__(cluster.random)
        self.name = name
        self.cluster = cluster
        self.endpoints = tuple(endpoints)
        self.calls: Counter[CallKind] = Counter()
        self._endpoint = 0
        self._closed = False
        # Dicts, because the order in which a set is gone through is not the same in each run.
        self._waiting: dict[_Answer[Any], None] = {}
        self._rounds: dict[_KeepAliveRound, None] = {}
        self._watches = WatchStream(self)
        for member in self.endpoints:
            member.clients.append(self)

    def __repr__(self) -> str:
        return f"<FakeClient {self.name!r}>"

    @property
    def member(self) -> FakeMember:
        """Whom it speaks to now."""
        return self.endpoints[self._endpoint % len(self.endpoints)]

    def count(self, kind: CallKind) -> None:
        """One more request leaves."""
        self.calls[kind] += 1
        self.cluster.calls[kind] += 1

    def break_streams(self) -> None:
        """Break the stream of watches and that of keep-alives, with whatever is on its way. The watches come back."""
        error = EtcdUnavailableError("the stream was broken")
        self._end_keep_alive_stream(error)
        self._watches.break_(error)

    # The port

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        def grant(member: FakeMember) -> LeaseGranted:
            return LeaseGranted(lease_id, self.cluster.grant(lease_id, ttl), member.header())

        return await self._write("lease_grant", (ttl, lease_id), timeout, grant)

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        def revoke(member: FakeMember) -> Header:
            self.cluster.revoke(lease_id)
            return member.header()

        return await self._write("lease_revoke", (lease_id,), timeout, revoke)

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False, timeout: float) -> LeaseTimeToLive:
        return await self._call(
            "lease_time_to_live", (lease_id,), timeout, lambda member: member.time_to_live(lease_id, keys=keys)
        )

    async def member_status(self, *, timeout: float) -> MemberStatus:
        async def status(member: FakeMember) -> MemberStatus:
            await anyio.lowlevel.checkpoint()
            return member.status()

        return await self._call("member_status", (), timeout, status)

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        def read(member: FakeMember) -> RangeResult:
            result = self.cluster.txn((), (request,), (), member.header).results[0]
            assert isinstance(result, RangeResult)
            return result

        return await self._read("range", (request,), timeout, read)

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout: float,
    ) -> TxnResult:
        def transact(member: FakeMember) -> TxnResult:
            return self.cluster.txn(compare, success, failure, member.header)

        read_only = all(isinstance(operation, Range) for operation in (*success, *failure))
        return await (self._read if read_only else self._write)("txn", (compare, success, failure), timeout, transact)

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> Mapping[int, KeepAlive]:
        await self._check_open()
        this = _KeepAliveRound(tuple(lease_ids))
        assert not any(set(lease_ids) & set(other.lease_ids) for other in self._rounds), "a lease is in two calls"
        messages = []
        for lease_id in lease_ids:
            self.count("lease_keep_alive")
            fault = self.fault_for("lease_keep_alive")
            messages.append((lease_id, anyio.current_time() + self.one_way() + fault.request_delay, fault))
        self._rounds[this] = None
        try:
            self.cluster.spawn(self._carry_keep_alives, this, self.member, messages)
            with anyio.move_on_after(timeout):
                await this.ended.wait()
        finally:
            if this in self._rounds:
                # Timed out, or cancelled. The others on this stream lose what they wait for.
                del self._rounds[this]
                self._end_keep_alive_stream(EtcdUnavailableError("the keep-alive stream was ended"))
        if not this.answers:
            raise this.error or EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        return this.answers

    def watch(
        self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0, sink: WatchSink, timeout: float
    ) -> WatchHandle:
        if self._closed:
            raise EtcdUnavailableError("the connection is closed")
        return self._watches.add(key, range_end, start_revision, sink, timeout)

    @property
    def endpoint(self) -> int:
        return self._endpoint

    def switch_endpoint(self, used: int) -> None:
        if used == self._endpoint and len(self.endpoints) > 1:
            self.count("switch_endpoint")
            self._endpoint += 1
            self.break_streams()

    async def aclose(self) -> None:
        self._closed = True
        error = EtcdUnavailableError("the connection is closed")
        self._watches.close()
        self._end_keep_alive_stream(error)
        for answer in list(self._waiting):
            answer.fail(error)
        await anyio.lowlevel.checkpoint()

    # How calls travel

    async def _read(
        self, kind: CallKind, arguments: tuple[Any, ...], timeout: float, question: Callable[[FakeMember], T]
    ) -> T:
        return await self._call(kind, arguments, timeout, lambda member: member.read(lambda: question(member)))

    async def _write(
        self, kind: CallKind, arguments: tuple[Any, ...], timeout: float, change: Callable[[FakeMember], T]
    ) -> T:
        return await self._call(kind, arguments, timeout, lambda member: member.write(lambda: change(member)))

    async def _call(
        self,
        kind: CallKind,
        arguments: tuple[Any, ...],
        timeout: float,
        serve: Callable[[FakeMember], Awaitable[T]],
    ) -> T:
        await self._check_open()
        self.count(kind)
        answer: _Answer[T] = _Answer()
        self._waiting[answer] = None
        try:
            self.cluster.spawn(self._carry, kind, arguments, serve, answer)
            with anyio.move_on_after(timeout):
                await answer.came.wait()
        finally:
            answer.given_up = True
            del self._waiting[answer]
        if answer.error is not None:
            raise answer.error
        if not answer.came.is_set():
            raise EtcdUnavailableError(f"etcd did not answer {kind} within {timeout:g} s")
        return answer.value  # type: ignore[return-value]  # it came, and was no error

    async def _carry(
        self,
        kind: CallKind,
        arguments: tuple[Any, ...],
        serve: Callable[[FakeMember], Awaitable[T]],
        answer: _Answer[T],
    ) -> None:
        """Take one request to etcd, have it done, and bring the answer, whether or not somebody still waits for it."""
        member, fault = self.member, self.fault_for(kind)
        arrives = anyio.current_time() + self.one_way() + fault.request_delay
        held_up = not await self.arrival(arrives)
        if fault.lose == "request" or (held_up and answer.given_up):
            return
        outcome: Callable[[], None]
        try:
            value = await self._serve(kind, arguments, member, serve, fault)
        except Exception as error:  # noqa: BLE001 - whatever a hook raises, an assertion perhaps, goes to the caller
            failure = error
            outcome = lambda: answer.fail(failure)  # noqa: E731
        else:
            outcome = lambda: answer.succeed(value)  # noqa: E731
        if fault.lose != "answer":
            await self.arrival(anyio.current_time() + self.one_way() + fault.answer_delay)
            outcome()

    async def _serve(
        self,
        kind: CallKind,
        arguments: tuple[Any, ...],
        member: FakeMember,
        serve: Callable[[FakeMember], Awaitable[T]],
        fault: Fault,
    ) -> T:
        """What happens when a request has reached its member."""
        member.check_up()
        await self.cluster.tell_hooks(Call(self.name, kind, "before", arguments))
        if fault.error is not None and not fault.applied:
            raise fault.error
        value = await serve(member)
        await self.cluster.tell_hooks(Call(self.name, kind, "after", arguments))
        if fault.error is not None:
            raise fault.error
        return value

    async def _carry_keep_alives(
        self, this: _KeepAliveRound, member: FakeMember, messages: Sequence[tuple[int, float, Fault]]
    ) -> None:
        """Take keep-alives to etcd, which serves those of one stream one after another."""
        for lease_id, arrives, fault in messages:
            held_up = not await self.arrival(arrives)
            if held_up and this not in self._rounds:
                return
            if fault.lose == "request":
                continue
            try:
                renew = partial(FakeMember.keep_alive, lease_id=lease_id)
                answer = await self._serve("lease_keep_alive", (lease_id,), member, renew, fault)
            except Exception as error:  # noqa: BLE001 - as above
                await self.arrival(anyio.current_time() + self.one_way())
                if this in self._rounds:
                    self._end_keep_alive_stream(error)
                return
            if fault.lose == "answer":
                continue
            delay = self.one_way() + fault.answer_delay
            if delay or self.partitioned:
                # Beside the next: answers are on their way while others are served.
                self.cluster.spawn(self._bring_keep_alive, this, answer, anyio.current_time() + delay)
            else:
                self._take_keep_alive(this, answer)

    async def _bring_keep_alive(self, this: _KeepAliveRound, answer: KeepAlive, arrives: float) -> None:
        await self.arrival(arrives)
        self._take_keep_alive(this, answer)

    def _take_keep_alive(self, this: _KeepAliveRound, answer: KeepAlive) -> None:
        if this in self._rounds:
            this.answers[answer.lease_id] = answer
            if len(this.answers) == len(this.lease_ids):
                del self._rounds[this]
                this.ended.set()

    def _end_keep_alive_stream(self, error: Exception) -> None:
        for one in list(self._rounds):
            del self._rounds[one]
            one.error = error
            one.ended.set()

    async def _check_open(self) -> None:
        if self._closed:
            await anyio.lowlevel.checkpoint()
            raise EtcdUnavailableError("the connection is closed")
