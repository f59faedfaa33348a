"""A client's watches: one stream to one member, which is opened anew whenever it breaks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import anyio

from .._etcd.api import WatchBroken, WatchCanceled, WatchCreated, WatchEvents, WatchMessage, WatchSink
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from ._cluster import Call
from ._faults import Fault
from ._member import FakeMember

if TYPE_CHECKING:
    from ._client import FakeClient

__all__ = ("WatchStream",)

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds between a break and the next attempt, doubled from the first to the longest: as the gateway does it."""


@dataclass(eq=False)
class _Watch:
    """A watch, over all streams on which it was created."""

    key: bytes
    range_end: bytes
    next_revision: int
    sink: WatchSink
    timeout: float
    stream: WatchStream
    pending: bool = True
    created: bool = False
    closed: bool = False
    leave_server: Callable[[], None] | None = None

    def close(self) -> None:
        """End it."""
        self.closed, self.pending = True, False
        self.stream.forget(self)

    def take(self, message: WatchMessage) -> None:
        """Take in what the stream brings, and pass it on."""
        if self.closed:
            return
        match message:
            case WatchCreated(revision):
                self.pending = False
                self.next_revision = self.next_revision or revision + 1
                message = WatchCreated(self.next_revision - 1, resumed=self.created)
                self.created = True
            case WatchEvents(events):
                self.next_revision = events[-1].kv.mod_revision + 1
            case WatchCanceled():
                self.close()
            case WatchBroken():
                pass
        self.sink(message)


@dataclass
class _Conversation:
    """One stream: what is on its way, up and down, each entry arriving at its moment, in order; and a heap of the
    watches that wait for their creation, by the moment at which that takes too long."""

    member: FakeMember
    up: deque[tuple[float, _Watch, Fault]] = field(default_factory=deque)
    down: deque[tuple[float, _Watch, WatchMessage]] = field(default_factory=deque)
    pending: list[tuple[float, int, _Watch]] = field(default_factory=list)
    error: EtcdLeaderError | None = None
    useful: bool = False


class WatchStream:
    """All watches of one client.

    Its task never waits while it tells the sinks, so each message is taken in whole before the next.
    """

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._watches: dict[_Watch, None] = {}
        self._unasked: deque[_Watch] = deque()
        self._conversation: _Conversation | None = None
        self._running = False

    def add(self, key: bytes, range_end: bytes, start_revision: int, sink: WatchSink, timeout: float) -> _Watch:
        """Ask for a watch."""
        watch = _Watch(key, range_end, start_revision, sink, timeout, self)
        if not self._running:
            self._client.cluster.spawn(self._run)
            self._running = True
        self._watches[watch] = None
        self._unasked.append(watch)
        self._client.changed.send()
        return watch

    def forget(self, watch: _Watch) -> None:
        """Drop a watch that was closed."""
        if watch in self._watches:
            del self._watches[watch]
            _leave_server(watch)

    def close(self) -> None:
        """Drop all watches, without a word."""
        for watch in list(self._watches):
            watch.close()

    def break_(self, error: EtcdLeaderError) -> None:
        """End the stream, if there is one. What is on its way is lost."""
        if self._conversation is not None:
            self._conversation.error = error
            self._client.changed.send()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                await self._client.changed.until(lambda: bool(self._watches))
                useful = await self._follow()
                pause = _FIRST_PAUSE if useful else min(2 * pause, _LONGEST_PAUSE)
                await anyio.sleep(pause)
        except Exception as error:  # noqa: BLE001 - raised again when the fake is left: nobody waits for this task
            self._client.cluster.failure = error

    async def _follow(self) -> bool:
        """Open a stream and stay with it until it breaks; returns whether it brought anything."""
        self._conversation = talk = _Conversation(self._client.member)
        used = self._client.endpoint
        error = await self._converse(talk)
        self._conversation = None
        if error._elsewhere:  # noqa: SLF001 - of this package
            self._client.switch_endpoint(used)
        for watch in self._watches:
            _leave_server(watch)
            watch.pending = True
        self._unasked = deque(self._watches)
        for watch in list(self._watches):
            watch.take(WatchBroken(error))
        return talk.useful

    async def _converse(self, talk: _Conversation) -> EtcdLeaderError:
        """Carry messages until the stream breaks; returns why."""
        while True:
            # Taken first: whatever happens from here on wakes the wait below.
            changed = self._client.changed.next()
            now = anyio.current_time()
            if talk.error is not None:
                return talk.error
            try:
                talk.member.check_up()
            except EtcdUnavailableError as error:
                return error
            while talk.pending and not talk.pending[0][2].pending:
                heappop(talk.pending)
            if talk.pending and talk.pending[0][0] <= now:
                overdue = talk.pending[0][2]
                return EtcdUnavailableError(f"etcd did not create a watch within {overdue.timeout:g} s")
            self._ask(talk, now)
            if await self._carry(talk, now):
                continue
            with anyio.CancelScope(deadline=self._next_moment(talk)):
                await changed.wait()

    def _ask(self, talk: _Conversation, now: float) -> None:
        """Send the creation of each watch that is not asked for yet."""
        while self._unasked:
            watch = self._unasked.popleft()
            if not watch.closed:
                self._client.count("watch")
                fault = self._client.fault_for("watch")
                talk.up.append((now + self._client.one_way() + fault.request_delay, watch, fault))
                heappush(talk.pending, (now + watch.timeout, id(watch), watch))

    async def _carry(self, talk: _Conversation, now: float) -> bool:
        """Deliver one message that has arrived; False if none has."""
        if self._blocked(talk):
            return False
        if talk.up and talk.up[0][0] <= now:
            _, watch, fault = talk.up.popleft()
            await self._create(talk, watch, fault)
            return True
        if talk.down and talk.down[0][0] <= now and not self._client.stalled:
            _, watch, message = talk.down.popleft()
            talk.useful = True
            watch.take(message)
            return True
        return False

    async def _create(self, talk: _Conversation, watch: _Watch, fault: Fault) -> None:
        """etcd is asked to create a watch."""
        if fault.lose == "request" or watch.closed:
            return
        arguments = (watch.key, watch.range_end, watch.next_revision)
        await self._client.cluster.tell_hooks(Call(self._client.name, "watch", "before", arguments))
        answer_delay = fault.answer_delay

        def send(message: WatchMessage) -> None:
            nonlocal answer_delay
            if fault.lose == "answer" and isinstance(message, WatchCreated):
                return
            # The created answer may be late, and holds up what comes after it.
            earliest = talk.down[-1][0] if talk.down else -math.inf
            at = anyio.current_time() + self._client.one_way() + answer_delay
            answer_delay = 0.0
            talk.down.append((max(at, earliest), watch, message))
            self._client.changed.send()

        if isinstance(fault.error, EtcdRefusedError):
            send(WatchCanceled(fault.error))
        elif fault.error is not None:
            talk.error = fault.error
        elif not watch.closed:
            watches = talk.member.watches
            on_server = watches.open(
                watch.key, watch.range_end, watch.next_revision, send, revision=talk.member.revision
            )
            watch.leave_server = lambda: watches.close(on_server)
            self._client.cluster.changed.send()

    def _blocked(self, talk: _Conversation) -> bool:
        return self._client.partitioned or talk.member.frozen

    def _next_moment(self, talk: _Conversation) -> float:
        """When there is something to do again, unless something changes first."""
        moments = [talk.pending[0][0]] if talk.pending else []
        if talk.up and not self._blocked(talk):
            moments.append(talk.up[0][0])
        if talk.down and not self._blocked(talk) and not self._client.stalled:
            moments.append(talk.down[0][0])
        return min(moments, default=math.inf)


def _leave_server(watch: _Watch) -> None:
    if watch.leave_server is not None:
        watch.leave_server()
        watch.leave_server = None
