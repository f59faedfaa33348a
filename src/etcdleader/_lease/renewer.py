"""The task that renews a connection's leases in shared rounds and checks their deadlines, also after a suspend.

The keep-alives of all due leases are sent back to back on one stream. Then one proposal, and read-only Txns of up to 128
keys, confirm them. So ten thousand leases cost ten thousand small messages and about 160 Txns, instead of twenty thousand
calls. Every renewal confirms every key, even if a watch has missed an event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from .._runtime.clock import Clock
from .._runtime.events import Event
from .._runtime.min_counter import MinCounter
from .._runtime.tasks import ProtectedTaskGroup
from ..errors import EtcdUnavailableError
from .renewal_round import MAX_KEYS_PER_READ, Renewable, RenewalConnection, RenewalRound
from .timer_queue import TimerQueue

_MIN_PAUSE_SECONDS = 0.001
"""On a clock slower than the loop's, each sleep ends too early, and the remaining time shrinks toward zero."""
_MAX_PAUSE_SECONDS = 3600.0
_RESTART_SECONDS = 1.0
_PACE_SECONDS = 0.005
"""Seconds between two full rounds, so that leases that are due at the same moment are not sent in one burst."""
_SPREAD_FROM_LEASES = 10 * MAX_KEYS_PER_READ
"""The number of leases from which new ones get a random offset within their interval.

A lease may be renewed early by a tenth of its interval. With this many leases, those that are due within a tenth of the
interval fill a round. With fewer, a random offset would cost extra rounds.
"""
_LATE_CHECK_SECONDS = 1.0
"""Seconds after a late check within which the client attributes a loss to it."""
_CLOCK_DRIFT_SECONDS = 0.005
"""Seconds by which two clocks may drift apart before all their leases are checked again."""


@dataclass(slots=True)
class _ClockUse:
    """A clock: its lead over the loop's clock, its last reading, and the number of leases that use it."""

    clock: Clock
    ahead: float
    read_at: float
    users: int = 0
    late: float = 0.0
    """Seconds by which the last reading was late."""

    def read_and_compare(self, now: float, pause: float) -> bool:
        """Read the clock. Return whether it has moved relative to the loop's clock.

        Args:
            now: The current time on the loop's clock.
            pause: The planned seconds since the last reading.
        """
        reading = self.clock.now()
        self.late, self.read_at = reading - self.read_at - pause, reading
        ahead = reading - now
        if abs(ahead - self.ahead) <= _CLOCK_DRIFT_SECONDS:
            return False
        self.ahead = ahead
        return True


class LeaseRenewer:
    """The renewer of one connection's leases, in a task that the connection owns.

    Rounds run concurrently, so that a slow response delays only the leases of the same round.
    """

    def __init__(self, connection: RenewalConnection) -> None:
        self._connection = connection
        self._leases: dict[Renewable, RenewalRound | None] = {}
        self._next_checks: TimerQueue[Renewable] = TimerQueue()
        self._clocks: dict[Clock, _ClockUse] = {}
        self._ticks: dict[Renewable, float] = {}
        self._distinct_ticks = MinCounter()
        self._wake = Event()
        self._sleeps_until = -math.inf
        """The time when the task wakes up without a signal; ``-inf`` while it runs and needs none."""
        self._pause = 0.0
        """The planned seconds of the current or last sleep."""
        self._group: ProtectedTaskGroup | None = None

    def add(self, lease: Renewable) -> None:
        """Renew ``lease`` and check its deadlines from now on."""
        self._leases[lease] = None
        clock = lease.clock
        if (use := self._clocks.get(clock)) is None:
            reading = clock.now()
            use = self._clocks[clock] = _ClockUse(clock, reading - anyio.current_time(), reading)
        use.users += 1
        if len(self._leases) > _SPREAD_FROM_LEASES:
            lease.add_jitter()
        self._check_now(lease)

    def discard(self, lease: Renewable) -> None:
        """Stop renewing and checking ``lease``."""
        if lease in self._leases:
            del self._leases[lease]
            self._next_checks.discard(lease)
            use = self._clocks[lease.clock]
            use.users -= 1
            if not use.users:
                del self._clocks[lease.clock]
            if (every := self._ticks.pop(lease, None)) is not None:
                self._distinct_ticks.remove(every)

    def watch_clock(self, lease: Renewable, every: float) -> None:
        """Compare the lease's clock with the loop's every ``every`` seconds, until the lease is discarded.

        An event loop sleeps on a clock that stops during suspend, and the deadlines here are times on that clock.
        """
        if lease in self._leases and lease not in self._ticks:
            self._ticks[lease] = every
            self._distinct_ticks.add(every)
            # Leave the check to the task, because the caller is still in the middle of a change.
            self._next_checks.set(lease, -math.inf)
            if anyio.current_time() + every < self._sleeps_until:
                self._wake.set()

    def blocked_for(self, lease: Renewable) -> float:
        """Return for how many seconds, at least, the event loop was blocked just now; 0 or less if it was not.

        The seconds are those of the lease's clock.
        """
        if (use := self._clocks.get(lease.clock)) is None:
            return 0.0
        unread = lease.clock.now() - use.read_at
        return max(unread - self._pause, use.late if unread < _LATE_CHECK_SECONDS else 0.0)

    @property
    def _tick(self) -> float:
        return self._distinct_ticks.min(_MAX_PAUSE_SECONDS)

    def _check_now(self, lease: Renewable) -> None:
        """Check ``lease`` in this call. Wake the task only if it must act earlier than planned."""
        if self._check(lease, anyio.current_time()) is not None:
            self.check_soon(lease)

    def check_soon(self, lease: Renewable) -> None:
        """Wake the task to check ``lease`` now, earlier than planned."""
        if lease in self._leases:
            self._next_checks.set(lease, -math.inf)
            self._wake.set()

    def check_all_soon(self) -> None:
        """Wake the task to check every lease now."""
        for lease in self._leases:
            self._next_checks.set(lease, -math.inf)
        self._wake.set()

    async def renew_now(self, lease: Renewable) -> None:
        """Renew ``lease`` in one round. Return when the round has ended for this lease, with or without success.

        A round in progress suffices, unless its reads were sent already. They may show a state from before this call.
        """
        while lease in self._leases and self._group is not None:
            under_way = self._leases[lease]
            if under_way is None:
                pause = lease.check()
                if lease not in self._leases:
                    return
                under_way, may_join = self._start_round(self._group, {lease: pause}), True
            else:
                may_join = not under_way.reading
            while self._leases.get(lease) is under_way:
                await under_way.changed.wait()
            if may_join:
                return

    async def run(self) -> None:
        """Renew the leases until cancelled."""
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 - no caller awaits this task: the leases receive the error
                failure = EtcdUnavailableError(f"renewing leases failed unexpectedly: {error!r}")
                for lease in list(self._leases):
                    lease.on_internal_error(failure)
                await anyio.sleep(_RESTART_SECONDS)

    async def _run(self) -> None:
        try:
            async with ProtectedTaskGroup() as self._group:
                while True:
                    self._wake = Event()
                    self._pause = self._start_due(self._group)
                    self._sleeps_until = anyio.current_time() + self._pause
                    await self._wake.wait_for(self._pause)
                    self._sleeps_until = -math.inf
        finally:
            self._group = None

    def _start_due(self, group: ProtectedTaskGroup) -> float:
        """Start a round of the due leases. Return the seconds until the next call."""
        now = anyio.current_time()
        self._compare_clocks(now)
        due: dict[Renewable, float] = {}
        while len(due) < MAX_KEYS_PER_READ and (lease := self._next_checks.pop(now)) is not None:
            if (pause := self._check(lease, now)) is not None:
                due[lease] = pause
        if due:
            for lease in self._coalesce(now, MAX_KEYS_PER_READ - len(due)):
                pause = lease.check()
                if lease in self._leases:
                    due[lease] = pause
            self._start_round(group, due)
        next_look = self._next_checks.next()
        if next_look is None:
            return self._tick
        return min(self._tick, max(next_look - now, _PACE_SECONDS if due else _MIN_PAUSE_SECONDS))

    def _check(self, lease: Renewable, now: float) -> float | None:
        """Check ``lease``. If its renewal is due, return the seconds until its next check.

        Otherwise, schedule the next check of the lease, unless it was discarded, and return None.
        """
        pause = lease.check()
        if lease not in self._leases:
            return None
        if self._leases[lease] is None and (due_in := lease.due_in()) is not None:
            if due_in <= 0:
                return pause
            pause = min(pause, due_in)
        self._next_checks.set(lease, when := now + pause)
        if when < self._sleeps_until:
            self._wake.set()
        return None

    def _coalesce(self, now: float, most: int) -> list[Renewable]:
        """Return up to ``most`` leases that are due soon. They join this round, which saves a later one."""
        found: list[Renewable] = []
        left: list[tuple[Renewable, float]] = []
        while len(found) < most and len(left) < most and (when := self._next_checks.next()) is not None:
            lease = self._next_checks.pop(when)
            assert lease is not None
            if self._leases[lease] is None and lease.can_renew_early():
                found.append(lease)
            else:
                left.append((lease, when))
                if when > now:
                    break  # the leases after it are due even later
        for lease, when in left:
            self._next_checks.set(lease, when)
        return found

    def _compare_clocks(self, now: float) -> None:
        moved = {clock for clock, use in self._clocks.items() if use.read_and_compare(now, self._pause)}
        if moved:
            for lease in self._leases:
                if lease.clock in moved:
                    self._next_checks.set(lease, -math.inf)

    def _start_round(self, group: ProtectedTaskGroup, leases: Mapping[Renewable, float]) -> RenewalRound:
        """Start a round. The values are the seconds until the next check of each lease."""
        this = RenewalRound(self._connection, list(leases), wanted=self._is_to_be_renewed, release=self._release)
        now = anyio.current_time()
        for lease, pause in leases.items():
            self._leases[lease] = this
            self._next_checks.set(lease, now + pause)
        group.start_soon(this.run)
        return this

    def _release(self, this: RenewalRound, leases: Sequence[Renewable]) -> None:
        """Record that the round has ended for these leases. It may continue for others."""
        now = anyio.current_time()
        for lease in leases:
            if self._leases.get(lease) is this:
                self._leases[lease] = None
                if self._check(lease, now) is not None:
                    self.check_soon(lease)
        this.notify()

    def _is_to_be_renewed(self, lease: Renewable) -> bool:
        """Return whether the lease must still be renewed."""
        return lease in self._leases and lease.due_in() is not None
