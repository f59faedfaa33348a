"""Random schedules of faults. A seed determines the schedule."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from etcdleader import Config, EtcdLeaderManager, EtcdUnavailableError
from etcdleader._etcd.api import KeyValue
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call, CallKind, FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.invariants import InvariantChecker
from tests.sim.mistakes import Mistakes
from tests.sim.world import ELECTION, make

T = TypeVar("T")

__all__ = ("CONFIG", "ELECTION_TIMEOUT", "ETCDS_MISTAKES", "SLOWEST", "Process", "Schedule")

KINDS: tuple[CallKind | None, ...] = (None, "lease_grant", "txn", "lease_keep_alive", "range", "watch", "lease_revoke")
CONFIG = Config(enabled=True, id="sim", lease=10, renew=2, retry=3, margin=1)
"""Seconds.

A response may be late by more than the margin and still count, so a deadline computed from its arrival is wrong.
"""
SLOWEST, FASTEST = 0.94, 1.06
"""Rates of the managers' clocks. The margin is a tenth of the lease."""
ELECTION_TIMEOUT = 3.0
"""etcd's election timeout. A deposed member may acknowledge keep-alives for twice as long (measured)."""

ETCDS_MISTAKES = True
"""True if etcd makes its own mistakes in each schedule that does not decide this itself.

Its former leaders revoke live leases when they wake up (etcd#15247). Members report raft terms that are too low, or
none.
"""


@dataclass
class Process:
    """Managers of one or many elections, their connection and their clock."""

    managers: Sequence[EtcdLeaderManager]
    client: FakeClient
    clock: VirtualClock
    leaving: bool = False

    @property
    def leads(self) -> bool:
        """Return whether any of the managers leads."""
        return any(manager.is_leader() for manager in self.managers)


@dataclass
class Schedule:
    """The faults of one schedule, drawn from one seed.

    Attributes:
        checkers: One for each election.
        by_hand: Whether keys and leases are changed by hand, too. If not, no leader is ever excused.
        slowest: The slowest rate of a manager's clock.
        log: What was done, and when.
        mistakes: Whether etcd makes its own mistakes, too (:data:`ETCDS_MISTAKES`).
    """

    etcd: FakeEtcd
    group: TaskGroup
    rng: random.Random
    by_hand: bool
    slowest: float
    processes: list[Process] = field(default_factory=list)
    log: list[tuple[float, str]] = field(default_factory=list)
    elections: Sequence[str] = (ELECTION,)
    config: Config = CONFIG
    checkers: dict[str, InvariantChecker] = field(init=False)
    mistakes: bool = ETCDS_MISTAKES
    _mistakes: Mistakes | None = None
    _cluster_is_ill: bool = False

    def __post_init__(self) -> None:
        self.etcd.woken_leaders_revoke = self.mistakes
        for number in range(self.how_many_processes()):
            members = self.etcd.members if self.rng.random() < 0.6 else [self.rng.choice(self.etcd.members)]
            client = self.etcd.client(f"process {number}", endpoints=members)
            clock = VirtualClock(self.rng.uniform(self.slowest, FASTEST))
            managers = [make(client, clock, election=election, config=self.config) for election in self.elections]
            self.processes.append(Process(managers, client, clock))
        self.checkers = {
            election: InvariantChecker(
                self.etcd, managers, self.config.lease, election=election, at_requests=len(self.elections) == 1
            )
            for election, *managers in zip(
                self.elections, *(process.managers for process in self.processes), strict=True
            )
        }

    def how_many_processes(self) -> int:
        """Draw the number of competing processes."""
        return self.rng.randint(3, 5)

    async def play(self, seconds: float) -> None:
        """Inject the faults, then let everything recover."""
        for process in self.processes:
            self._start(process)
        faults = [self._delay, self._lose, self._fail, self._silence, self._latency, self._clock, self._leave]
        faults += [self._cluster, self._cluster, self._compact, self._last_word]
        if self.by_hand:
            faults += [self._touch_a_key]
        if self.mistakes:
            self._mistakes = Mistakes(
                self.etcd, self.rng, lease=self.config.lease, election_timeout=ELECTION_TIMEOUT, note=self._note
            )
            faults += [self._mistake, self._mistake]
        end = anyio.current_time() + seconds
        while anyio.current_time() < end:
            await anyio.sleep(self.rng.expovariate(1 / 2))
            self.rng.choice(faults)(self._victim())
        await anyio.sleep(4 * self.config.lease)  # every temporary fault is over by then
        for process in self.processes:
            process.client.clear_faults()
            process.client.latency = 0.0
        await self.recover()

    async def recover(self) -> None:
        """End all faults."""
        await anyio.sleep(3 * self.config.lease)

    def _start(self, process: Process) -> None:
        for manager in process.managers:
            self.group.start_soon(manager.campaign)

    def _victim(self) -> Process:
        """Choose a process. The leader is chosen more often, because faults matter more there."""
        leaders = [process for process in self.processes if process.leads]
        return self.rng.choice(leaders if leaders and self.rng.random() < 0.5 else self.processes)

    def _one(self, things: Sequence[T]) -> T:
        return things[0] if len(things) == 1 else self.rng.choice(things)

    def _note(self, what: str) -> None:
        self.log.append((round(anyio.current_time(), 6), what))

    def _for_a_while(self, begin: Callable[[], object], end: Callable[[], object], longest: float, what: str) -> None:
        seconds = self.rng.uniform(0, longest)
        self._note(f"{what} for {seconds:.3f} s")

        async def wait_and_end() -> None:
            await anyio.sleep(seconds)
            end()

        begin()
        self.group.start_soon(wait_and_end)

    # Faults

    def _delay(self, process: Process) -> None:
        kind, rng = self.rng.choice(KINDS), self.rng
        request, answer = rng.choice((0, rng.uniform(0, 3), rng.uniform(0, 30))), rng.choice((0, rng.uniform(0, 3)))
        self._note(f"{process.client.name}: {kind} delayed by {request:.3f} and {answer:.3f}")
        process.client.delay(kind, request=request, answer=answer, times=rng.randint(1, 4))

    def _lose(self, process: Process) -> None:
        kind, what = self.rng.choice(KINDS), self.rng.choice(("request", "answer"))
        self._note(f"{process.client.name}: {what} of {kind} lost")
        lose = process.client.lose_request if what == "request" else process.client.lose_answer
        lose(kind, times=self.rng.randint(1, 6))

    def _fail(self, process: Process) -> None:
        kind, applied = self.rng.choice(KINDS), self.rng.random() < 0.5
        self._note(f"{process.client.name}: {kind} failed, applied: {applied}")
        process.client.fail(
            kind, EtcdUnavailableError("UNAVAILABLE: drawn"), applied=applied, times=self.rng.randint(1, 3)
        )

    def _silence(self, process: Process) -> None:
        client = process.client
        if client.partitioned or client.stalled:
            client.break_streams()
            self._note(f"{client.name}: streams broken")
        elif self.rng.random() < 0.5:
            self._for_a_while(client.partition, client.heal, 20, f"{client.name}: partitioned")
        else:
            self._for_a_while(client.stall_watches, client.resume_watches, 20, f"{client.name}: watches stalled")

    def _last_word(self, process: Process) -> None:
        """Make the last renewal before an outage doubtful.

        Chance alone seldom does that, and only then does it matter.
        """
        if process.client.partitioned or self._cluster_is_ill:
            return
        deposed = self.rng.random() < 0.5
        self._note(f"{process.client.name}: a last word, deposed: {deposed}")
        self.group.start_soon(
            self._acknowledge_by_a_deposed_leader if deposed else self._delay_the_response,
            process,
            self.rng.uniform(0, 1),
        )

    async def _delay_the_response(self, process: Process, drawn: float) -> None:
        """Delay a keep-alive's response by more than the margin, and let no later response through."""
        process.client.latency = 0.0
        late = 1 + drawn * 0.95
        process.client.delay("lease_keep_alive", answer=late)
        if await self._sees_a_keep_alive_of(process.client):
            await anyio.sleep(late + 0.01)
            await self._cut_off(process.client)

    async def _acknowledge_by_a_deposed_leader(self, process: Process, drawn: float) -> None:
        """Let a deposed leader acknowledge the keep-alive, and a member with the new leader answer the read."""
        client, member = process.client, process.client.member
        client.latency = 0.0
        self._cluster_is_ill = True
        member.depose()
        await anyio.sleep((1 + drawn) * ELECTION_TIMEOUT - 0.1)
        if await self._sees_a_keep_alive_of(client):
            await anyio.sleep(0.05)
        member.recover()
        await anyio.sleep(0.01)
        self._cluster_is_ill = False
        await self._cut_off(client)

    async def _sees_a_keep_alive_of(self, client: FakeClient) -> bool:
        seen = anyio.Event()

        def hook(call: Call) -> None:
            if call.client == client.name and call.kind == "lease_keep_alive" and call.stage == "after":
                seen.set()

        self.etcd.hooks.append(hook)
        with anyio.move_on_after(2 * self.config.renew):
            await seen.wait()
        self.etcd.hooks.remove(hook)
        return seen.is_set()

    async def _cut_off(self, client: FakeClient) -> None:
        if not client.partitioned:
            client.partition()
            await anyio.sleep(2 * self.config.lease)
            client.heal()

    def _latency(self, process: Process) -> None:
        process.client.latency = self.rng.choice((0.0, (0.001, 0.05), (0.0, 0.2)))
        self._note(f"{process.client.name}: latency {process.client.latency}")

    def _clock(self, process: Process) -> None:
        if self.rng.random() < 0.5:
            process.clock.rate = self.rng.uniform(self.slowest, FASTEST)
        else:
            process.clock.advance(self.rng.choice((self.rng.uniform(0, 1), self.rng.uniform(0, 20))))
        self._note(f"{process.client.name}: clock at {process.clock()}")

    def _leave(self, process: Process) -> None:
        if self.rng.random() < 0.5:
            self._note(f"{process.client.name}: resigns")
            self.group.start_soon(self._one(process.managers).resign)
        elif not process.leaving:
            process.leaving = True
            self.group.start_soon(self._stop_and_start, process, self.rng.uniform(0, 20))

    async def _stop_and_start(self, process: Process, pause: float) -> None:
        self._note(f"{process.client.name}: stops")
        async with anyio.create_task_group() as group:
            for manager in process.managers:
                group.start_soon(manager.stop)
        await anyio.sleep(pause)
        self._note(f"{process.client.name}: starts")
        self._start(process)
        process.leaving = False

    def _cluster(self, process: Process) -> None:
        if self._cluster_is_ill:
            return
        member, rng = self.rng.choice(self.etcd.members), self.rng
        ills: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
            "frozen": (member.freeze, member.recover, 12),
            "lagging": (member.lag, member.recover, 12),
            "deposed": (member.depose, member.recover, 2 * ELECTION_TIMEOUT),
            "killed": (member.kill, member.recover, 12),
            "leaderless": (self.etcd.lose_leader, self.etcd.change_leader, 12),
            "a new leader": (self.etcd.change_leader, lambda: None, 0.1),
            "no space": (lambda: self._space(full=True), lambda: self._space(full=False), 12),
        }
        name = rng.choice(list(ills))
        begin, end, longest = ills[name]
        self._cluster_is_ill = True

        def recover() -> None:
            end()
            self._cluster_is_ill = False

        self._for_a_while(begin, recover, longest, f"etcd {member.member_id:x}: {name}")

    def _mistake(self, process: Process) -> None:
        if self._cluster_is_ill or self._mistakes is None:
            return
        self._cluster_is_ill = True

        def ended() -> None:
            self._cluster_is_ill = False

        self._mistakes.draw(self.group, process.client, ended)

    def _space(self, *, full: bool) -> None:
        self.etcd.no_space = full

    def _compact(self, process: Process) -> None:
        if self.etcd.revision > self.etcd._cluster.store.compacted:
            self.etcd.compact()
            self._note("compacted")

    def _touch_a_key(self, process: Process) -> None:
        election = self._one(self.elections)
        prefix = f"{election}/"
        keys = [kv for kv in self.etcd.keys().values() if kv.lease and kv.key.startswith(prefix.encode())]
        if not keys or self.etcd.no_space:
            return
        checker = self.checkers[election]
        kv = self.rng.choice((keys[0], self.rng.choice(keys)))
        faults: list[Callable[[KeyValue], object]] = [
            lambda kv: self.etcd.delete(kv.key),
            lambda kv: self.etcd.revoke(kv.lease),
            lambda kv: self.etcd.put(kv.key, b"thief", lease=kv.lease),
            lambda kv: (self.etcd.delete(kv.key), self.etcd.put(kv.key, kv.value, lease=kv.lease)),
            self._rob,
        ]
        number = self.rng.randrange(len(faults) + 2)
        self._note(f"by hand {number} to {kv.create_revision}")
        if number == len(faults):
            self.etcd.request_step_down(kv.key)  # this removes nothing
        elif number > len(faults):
            for victim in keys:
                checker.record_change_by_hand(victim.create_revision)
            self.etcd.delete_prefix(prefix)
        else:
            checker.record_change_by_hand(kv.create_revision)
            faults[number](kv)

    def _rob(self, kv: KeyValue) -> None:
        """Take a key off its lease, and put it back after a while.

        Otherwise it would block the election permanently.
        """
        self._for_a_while(
            lambda: self.etcd.put(kv.key, b"thief"),
            lambda: self.etcd.delete(kv.key),
            20,
            f"{kv.create_revision} robbed",
        )
