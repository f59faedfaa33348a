"""The renewals of one connection, done together.

Keep-alives of all leases that are due go out back to back on the one stream, then read-only transactions of up to 128
keys confirm them. So ten thousand candidacies cost ten thousand small messages and some eighty transactions, not twenty
thousand calls, and every renewal confirms every candidacy, whatever a watch may have missed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from ._core.agenda import Agenda
from ._etcd.api import EtcdApi, KeepAlive, KeyValue, Operation, Range, RangeResult, TxnResult
from ._loop import protected
from .errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError

__all__ = ("Renewable", "Renewals")

MAX_KEYS_PER_READ = 128
"""etcd's own bound on the operations of one transaction (``--max-txn-ops``)."""

_SHORTEST_PAUSE = 0.001
"""On a clock slower than the loop's, what is left until a moment shrinks and shrinks before that is there."""
_LONGEST_PAUSE = 3600.0
_REST = 1.0
_PACE = 0.005
"""Seconds between two full rounds: what is due at the same moment does not go out in one burst."""
_APART = 0.005
"""Seconds by which two clocks may move apart before everything is looked after anew."""
_ATTEMPTS = 2
"""In one round. After the last one a lease waits, by its own backoff."""


class Renewable(Protocol):
    """A lease to keep alive, as seen from here."""

    lease_id: int
    now: Callable[[], float]
    """The moment, on this lease's own clock: always the same object."""

    @property
    def retry(self) -> float:
        """Bound of one attempt, in seconds."""
        ...

    def check(self) -> float:
        """Compare the clock with the deadlines and act on what has passed. Returns in how many seconds to look again,
        at the latest."""
        ...

    def due_in(self) -> float | None:
        """Seconds until the next renewal is to start, 0 or less when it is to start now; None: never again."""
        ...

    def may_go_along(self) -> bool:
        """Whether it may be renewed now, although it is not due yet, in one round with others."""
        ...

    def keys(self) -> Sequence[bytes]:
        """The keys whose reading confirms it."""
        ...

    def answered(self, sent_at: float, answer: KeepAlive, read: Sequence[KeyValue | None], read_term: int) -> bool:
        """Take in a keep-alive's answer and the read after it; False when they confirm nothing."""
        ...

    def gone(self) -> None:
        """The keep-alive's answer says that etcd has no such lease."""
        ...

    def failed(self, error: EtcdLeaderError) -> None:
        """An attempt brought no answer."""
        ...

    def postpone(self) -> None:
        """Two attempts in a row brought no confirmation: wait before the next."""
        ...

    def regressed(self, error: EtcdRegressedError) -> None:
        """The cluster went back in time."""
        ...

    def unattended(self, error: EtcdLeaderError) -> None:
        """It was not looked after for a while, by a fault of ours."""
        ...


@dataclass(eq=False, slots=True)
class _Round:
    """One renewal, of one lease or of many, under way."""

    reading: bool = False
    elsewhere: bool = False
    news: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is over for some of its leases; then another one takes its place."""

    def tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()


@dataclass(slots=True)
class _Clock:
    """A clock that leases go by: how far it is ahead of the loop's, and how many use it."""

    read: Callable[[], float]
    ahead: float
    users: int = 0

    def moved(self, now: float) -> bool:
        ahead = self.read() - now
        if abs(ahead - self.ahead) <= _APART:
            return False
        self.ahead = ahead
        return True


class Renewals:
    """Keeps leases alive, in a task that its connection owns.

    Rounds run beside each other, so that a slow answer holds up no lease but those of its own round.
    """

    def __init__(self, api: EtcdApi, read: Callable[[Sequence[Operation], float], Awaitable[TxnResult]]) -> None:
        self._api = api
        self._read = read
        self._leases: dict[Renewable, _Round | None] = {}
        self._agenda: Agenda[Renewable] = Agenda()
        self._clocks: dict[int, _Clock] = {}
        """By their ids: a user's own clock need not be hashable, and one that equals another is not that other."""
        self._ticks: dict[Renewable, float] = {}
        self._tick_counts: Counter[float] = Counter()
        self._wake = anyio.Event()
        self._group: TaskGroup | None = None

    def add(self, lease: Renewable) -> None:
        """Renew ``lease`` from now on, and look after it."""
        self._leases[lease] = None
        clock = self._clocks.setdefault(id(lease.now), _Clock(lease.now, lease.now() - anyio.current_time()))
        clock.users += 1
        self.look(lease)

    def discard(self, lease: Renewable) -> None:
        """Forget it."""
        if lease in self._leases:
            del self._leases[lease]
            self._agenda.drop(lease)
            clock = self._clocks[id(lease.now)]
            clock.users -= 1
            if not clock.users:
                del self._clocks[id(lease.now)]
            if (every := self._ticks.pop(lease, None)) is not None:
                self._tick_counts[every] -= 1
                if not self._tick_counts[every]:
                    del self._tick_counts[every]

    def watch_clock(self, lease: Renewable, every: float) -> None:
        """Compare the lease's clock with the loop's so often, until it is discarded: loops sleep on clocks that stand
        still in suspend, and what is on the agenda is there by the loop's."""
        if lease in self._leases and lease not in self._ticks:
            self._ticks[lease] = every
            self._tick_counts[every] += 1
            self.look(lease)

    @property
    def _tick(self) -> float:
        # Of the few that differ: ten thousand leases that go must not look through each other.
        return min(self._tick_counts, default=_LONGEST_PAUSE)

    def look(self, lease: Renewable) -> None:
        """It is to be looked after sooner than it said before."""
        if lease in self._leases:
            self._agenda.put(lease, -math.inf)
            self._wake.set()

    async def renew_now(self, lease: Renewable) -> None:
        """Take ``lease`` through one round; return when that is over for it, however it went.

        A round under way will do, unless its read has left already: what that shows may be older than this call.
        """
        while lease in self._leases and self._group is not None:
            under_way = self._leases[lease]
            if under_way is None:
                under_way, may_join = self._start(self._group, [lease]), True
            else:
                may_join = not under_way.reading
            while self._leases.get(lease) is under_way:
                await under_way.news.wait()
            if may_join:
                return

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to those it looks after
                failure = EtcdUnavailableError(f"renewing broke: {error!r}")
                for lease in list(self._leases):
                    lease.unattended(failure)
                await anyio.sleep(_REST)

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as self._group:
                while True:
                    self._wake = anyio.Event()
                    with anyio.move_on_after(self._start_what_is_due(self._group)):
                        await self._wake.wait()
        finally:
            self._group = None

    def _start_what_is_due(self, group: TaskGroup) -> float:
        """Returns in how many seconds to come back."""
        now = anyio.current_time()
        self._compare_clocks(now)
        due: list[Renewable] = []
        while len(due) < MAX_KEYS_PER_READ and (lease := self._agenda.pop(now)) is not None:
            if self._look_after(lease, now):
                due.append(lease)
        if due:
            self._start(group, [*due, *self._companions(now, MAX_KEYS_PER_READ - len(due))])
        next_look = self._agenda.next()
        if next_look is None:
            return self._tick
        return min(self._tick, max(next_look - now, _PACE if due else _SHORTEST_PAUSE))

    def _look_after(self, lease: Renewable, now: float) -> bool:
        """Whether it is due; otherwise, it is on the agenda again."""
        pause = lease.check()
        if lease not in self._leases:
            return False
        if self._leases[lease] is None and (due_in := lease.due_in()) is not None:
            if due_in <= 0:
                return True
            pause = min(pause, due_in)
        self._agenda.put(lease, now + pause)
        return False

    def _companions(self, now: float, most: int) -> list[Renewable]:
        """Others who will be due soon, and spare a round of their own when they go along."""
        found: list[Renewable] = []
        left: list[tuple[Renewable, float]] = []
        while len(found) < most and len(left) < most and (when := self._agenda.next()) is not None:
            lease = self._agenda.pop(when)
            assert lease is not None
            if self._leases[lease] is None and lease.may_go_along():
                found.append(lease)
            else:
                left.append((lease, when))
                if when > now:
                    break  # those behind it are due later still
        for lease, when in left:
            self._agenda.put(lease, when)
        return found

    def _compare_clocks(self, now: float) -> None:
        moved = {number for number, clock in self._clocks.items() if clock.moved(now)}
        if moved:
            for lease in self._leases:
                if id(lease.now) in moved:
                    self._agenda.put(lease, -math.inf)

    def _start(self, group: TaskGroup, leases: Sequence[Renewable]) -> _Round:
        this = _Round()
        now = anyio.current_time()
        for lease in leases:
            self._leases[lease] = this
            self._agenda.put(lease, now + lease.check())
        group.start_soon(protected(self._renew), this, leases)
        return this

    async def _renew(self, this: _Round, leases: Sequence[Renewable]) -> None:
        try:
            left = self._wanting(leases)  # the loop may have been blocked since they were due
            for _ in range(_ATTEMPTS):
                if not left:
                    break
                used = self._api.endpoint
                left = await self._attempt(this, left)
                # What stood in the way may be the member we speak to, so the next attempt goes to another one, and the
                # second at once: most failures are over with that.
                if left and this.elsewhere:
                    self._api.switch_endpoint(used)
                this.reading = this.elsewhere = False
            for lease in left:
                lease.postpone()
        finally:
            self._release(this, leases)

    def _release(self, this: _Round, leases: Sequence[Renewable]) -> None:
        """The round is over for these, whatever becomes of its others."""
        for lease in leases:
            if self._leases.get(lease) is this:
                self._leases[lease] = None
                self.look(lease)
        this.tell()

    def _wanting(self, leases: Sequence[Renewable]) -> Sequence[Renewable]:
        """Those that want to be renewed still."""
        return [lease for lease in leases if lease in self._leases and lease.due_in() is not None]

    async def _attempt(self, this: _Round, leases: Sequence[Renewable]) -> Sequence[Renewable]:
        """Renew once, within the shortest ``retry``; returns those that were not confirmed and still want to be."""
        timeout = min(lease.retry for lease in leases)
        give_up_at = anyio.current_time() + timeout
        sent_at = {lease.lease_id: lease.now() for lease in leases}
        unanswered: EtcdLeaderError = EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        try:
            answers = await self._api.lease_keep_alive(list(sent_at), timeout=timeout)
        except EtcdLeaderError as error:
            unanswered, answers = error, {}
        left: list[Renewable] = []
        to_read: list[tuple[Renewable, KeepAlive]] = []
        for lease in leases:
            answer = answers.get(lease.lease_id)
            if answer is None:
                this.elsewhere |= unanswered._elsewhere  # noqa: SLF001 - of this package
                lease.failed(unanswered)
                left.append(lease)
            elif answer.ttl <= 0:
                lease.gone()
            else:
                to_read.append((lease, answer))
        this.reading = True
        async with anyio.create_task_group() as group:
            for some in _portions(to_read):
                group.start_soon(protected(self._confirm), this, some, sent_at, give_up_at, left)
        return self._wanting(left)

    async def _confirm(
        self,
        this: _Round,
        some: Sequence[tuple[Renewable, KeepAlive]],
        sent_at: dict[int, float],
        give_up_at: float,
        left: list[Renewable],
    ) -> None:
        """One read for some leases: it must be sent after their keep-alives were answered."""
        keys = [tuple(lease.keys()) for lease, _ in some]
        operations = [Range(key) for of_one in keys for key in of_one]
        try:
            result = await self._read(operations, max(give_up_at - anyio.current_time(), 0.001))
        except EtcdRegressedError as error:
            for lease, _ in some:
                lease.regressed(error)
            return
        except EtcdLeaderError as error:
            if isinstance(error, EtcdRefusedError) and len(some) > 1:
                # One key that may not be read, and etcd refuses them all: that must not cost the others.
                async with anyio.create_task_group() as group:
                    for one in some:
                        group.start_soon(protected(self._confirm), this, [one], sent_at, give_up_at, left)
                return
            this.elsewhere |= error._elsewhere  # noqa: SLF001 - of this package
            for lease, _ in some:
                lease.failed(error)
                left.append(lease)
            return
        found, settled = iter(result.results), []
        for (lease, answer), of_one in zip(some, keys, strict=True):
            read = [_only(next(found)) for _ in of_one]
            if lease.answered(sent_at[lease.lease_id], answer, read, result.header.raft_term):
                settled.append(lease)
            else:
                this.elsewhere = True
                left.append(lease)
        self._release(this, settled)


def _portions(
    answered: Sequence[tuple[Renewable, KeepAlive]],
) -> Iterator[Sequence[tuple[Renewable, KeepAlive]]]:
    portion: list[tuple[Renewable, KeepAlive]] = []
    size = 0
    for lease, answer in answered:
        wanted = len(lease.keys())
        if portion and size + wanted > MAX_KEYS_PER_READ:
            yield portion
            portion, size = [], 0
        portion.append((lease, answer))
        size += wanted
    if portion:
        yield portion


def _only(result: object) -> KeyValue | None:
    assert isinstance(result, RangeResult)
    return result.kvs[0] if result.kvs else None
