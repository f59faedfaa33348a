"""The renewals of one connection, done together.

Keep-alives of all leases that are due go out back to back on the one stream. Then one proposal, and read-only transactions
of up to 128 keys, confirm them. So ten thousand leases cost ten thousand small messages and some hundred and sixty
transactions, not twenty thousand calls. Every renewal confirms every key, whatever a watch may have missed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from .._runtime.clock import Clock
from .._runtime.events import LightEvent
from .._runtime.min_counter import MinCounter
from .._runtime.tasks import protected
from ..errors import EtcdUnavailableError
from .deadlines import Agenda
from .renewal_round import MAX_KEYS_PER_READ, Renewable, RenewalConnection, Round

__all__ = ("Renewals",)

_SHORTEST_PAUSE = 0.001
"""On a clock slower than the loop's, what is left until a moment shrinks and shrinks before that is there."""
_LONGEST_PAUSE = 3600.0
_REST = 1.0
_PACE = 0.005
"""Seconds between two full rounds: what is due at the same moment does not go out in one burst."""
_SPREAD_FROM = 10 * MAX_KEYS_PER_READ
"""Leases from which on new ones are spread over their interval. In a tenth of it, within which one may go along with
others, there are enough to fill a round then: fewer would cost rounds of their own."""
_LATELY = 1.0
"""Seconds after a late look in which a loss is put down to it."""
_APART = 0.005
"""Seconds by which two clocks may move apart before everything is looked after anew."""


@dataclass(slots=True)
class _ClockUse:
    """How far a clock is ahead of the loop's, how many leases go by it, and when it was read last."""

    clock: Clock
    ahead: float
    read_at: float
    users: int = 0
    late: float = 0.0
    """Seconds by which the last reading came too late."""

    def moved(self, now: float, pause: float) -> bool:
        """Read the clock, at ``now`` by the loop's and ``pause`` seconds after the last time; return whether it has moved."""
        reading = self.clock.now()
        self.late, self.read_at = reading - self.read_at - pause, reading
        ahead = reading - now
        if abs(ahead - self.ahead) <= _APART:
            return False
        self.ahead = ahead
        return True


class Renewals:
    """Keeps leases alive, in a task that its connection owns.

    Rounds run beside each other, so that a slow answer holds up no lease but those of its own round.
    """

    def __init__(self, connection: RenewalConnection) -> None:
        self._connection = connection
        self._leases: dict[Renewable, Round | None] = {}
        self._agenda: Agenda[Renewable] = Agenda()
        self._clocks: dict[Clock, _ClockUse] = {}
        self._ticks: dict[Renewable, float] = {}
        self._distinct_ticks = MinCounter()
        self._wake = LightEvent()
        self._sleeps_until = -math.inf
        """When the task looks at the agenda by itself; while it does, it needs no waking."""
        self._pause = 0.0
        """For how long it sleeps, or has slept last."""
        self._group: TaskGroup | None = None

    def add(self, lease: Renewable) -> None:
        """Renew ``lease`` from now on, and look after it."""
        self._leases[lease] = None
        clock = lease.clock
        if (use := self._clocks.get(clock)) is None:
            reading = clock.now()
            use = self._clocks[clock] = _ClockUse(clock, reading - anyio.current_time(), reading)
        use.users += 1
        if len(self._leases) > _SPREAD_FROM:
            lease.spread()
        self._look_now(lease)

    def discard(self, lease: Renewable) -> None:
        """Forget it."""
        if lease in self._leases:
            del self._leases[lease]
            self._agenda.drop(lease)
            use = self._clocks[lease.clock]
            use.users -= 1
            if not use.users:
                del self._clocks[lease.clock]
            if (every := self._ticks.pop(lease, None)) is not None:
                self._distinct_ticks.remove(every)

    def watch_clock(self, lease: Renewable, every: float) -> None:
        """Compare the lease's clock with the loop's so often, until it is discarded: loops sleep on clocks that stand
        still in suspend, and what is on the agenda is there by the loop's."""
        if lease in self._leases and lease not in self._ticks:
            self._ticks[lease] = every
            self._distinct_ticks.add(every)
            # Not here and now: the caller has not finished what it begins with this.
            self._agenda.put(lease, -math.inf)
            if anyio.current_time() + every < self._sleeps_until:
                self._wake.set()

    def late(self, lease: Renewable) -> float:
        """Return for how many seconds the event loop has not run just now, at least, by the lease's clock. 0 or less: it runs."""
        if (use := self._clocks.get(lease.clock)) is None:
            return 0.0
        unread = lease.clock.now() - use.read_at
        return max(unread - self._pause, use.late if unread < _LATELY else 0.0)

    @property
    def _tick(self) -> float:
        return self._distinct_ticks.min(_LONGEST_PAUSE)

    def _look_now(self, lease: Renewable) -> None:
        """Here and now: the task is woken only when there is something for it to do sooner than it had thought."""
        if self._look_after(lease, anyio.current_time()) is not None:
            self.look(lease)

    def look(self, lease: Renewable) -> None:
        """It is to be looked after sooner than it said before."""
        if lease in self._leases:
            self._agenda.put(lease, -math.inf)
            self._wake.set()

    def look_at_all(self) -> None:
        """Look after every lease now."""
        for lease in self._leases:
            self._agenda.put(lease, -math.inf)
        self._wake.set()

    async def renew_now(self, lease: Renewable) -> None:
        """Take ``lease`` through one round; return when that is over for it, however it went.

        A round under way will do, unless its read has left already: what that shows may be older than this call.
        """
        while lease in self._leases and self._group is not None:
            under_way = self._leases[lease]
            if under_way is None:
                pause = lease.check()
                if lease not in self._leases:
                    return
                under_way, may_join = self._start(self._group, {lease: pause}), True
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
                    self._wake = LightEvent()
                    self._pause = self._start_what_is_due(self._group)
                    self._sleeps_until = anyio.current_time() + self._pause
                    await self._wake.wait_for(self._pause)
                    self._sleeps_until = -math.inf
        finally:
            self._group = None

    def _start_what_is_due(self, group: TaskGroup) -> float:
        """Returns in how many seconds to come back."""
        now = anyio.current_time()
        self._compare_clocks(now)
        due: dict[Renewable, float] = {}
        while len(due) < MAX_KEYS_PER_READ and (lease := self._agenda.pop(now)) is not None:
            if (pause := self._look_after(lease, now)) is not None:
                due[lease] = pause
        if due:
            for lease in self._companions(now, MAX_KEYS_PER_READ - len(due)):
                pause = lease.check()
                if lease in self._leases:
                    due[lease] = pause
            self._start(group, due)
        next_look = self._agenda.next()
        if next_look is None:
            return self._tick
        return min(self._tick, max(next_look - now, _PACE if due else _SHORTEST_PAUSE))

    def _look_after(self, lease: Renewable, now: float) -> float | None:
        """Return the seconds until the next check of a lease whose renewal is due. Any other lease is on the agenda again."""
        pause = lease.check()
        if lease not in self._leases:
            return None
        if self._leases[lease] is None and (due_in := lease.due_in()) is not None:
            if due_in <= 0:
                return pause
            pause = min(pause, due_in)
        self._agenda.put(lease, when := now + pause)
        if when < self._sleeps_until:
            self._wake.set()
        return None

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
        moved = {clock for clock, use in self._clocks.items() if use.moved(now, self._pause)}
        if moved:
            for lease in self._leases:
                if lease.clock in moved:
                    self._agenda.put(lease, -math.inf)

    def _start(self, group: TaskGroup, leases: Mapping[Renewable, float]) -> Round:
        """Start a round. The values are the seconds until the next check of each lease."""
        this = Round(self._connection, list(leases), wanted=self._wanted, release=self._release)
        now = anyio.current_time()
        for lease, pause in leases.items():
            self._leases[lease] = this
            self._agenda.put(lease, now + pause)
        group.start_soon(protected(this.run))
        return this

    def _release(self, this: Round, leases: Sequence[Renewable]) -> None:
        """The round is over for these, whatever becomes of its others."""
        now = anyio.current_time()
        for lease in leases:
            if self._leases.get(lease) is this:
                self._leases[lease] = None
                if self._look_after(lease, now) is not None:
                    self.look(lease)
        this.tell()

    def _wanted(self, lease: Renewable) -> bool:
        """Whether it is to be renewed still."""
        return lease in self._leases and lease.due_in() is not None
