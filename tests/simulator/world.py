"""One run: the cluster, the network and the processes of a plan, on virtual time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from etcdleader import EtcdLeaderError, EtcdUnavailableError, Term
from etcdleader._election.queue import Rank
from etcdleader._grpc.transport import Transport
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Commit, FakeMember
from tests.simulator.freezing import Freezer
from tests.simulator.journal import Journal
from tests.simulator.network import Link, Network, TcpConnection
from tests.simulator.plan import Action, Plan
from tests.simulator.process import ELECTION, REGISTER, Process
from tests.simulator.service import Auth, RequestFault, ServerEnd
from tests.simulator.transports import open_transport

__all__ = ("STATES", "Outcome", "World")

STATES = ("out", "joining", "waiting", "next in line", "leading", "renewing", "draining", "resigning")
"""The states of a process when a fault begins. ``out``: it does not campaign, or has just been started."""


@dataclass
class Outcome:
    """The results of a run.

    Attributes:
        lines: The journal.
        coverage: How often each fault began in each state.
        seconds: The virtual seconds.
        messages: The packets.
        requests: The requests that etcd received.
    """

    lines: list[dict[str, Any]]
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    messages: int = 0
    requests: int = 0


Fault: TypeAlias = Callable[["World", str, float, random.Random], Awaitable[None]]
"""Begins a fault: the world, the process that it is aimed at, its seconds and its own random numbers."""


class World:
    """A cluster, its network and its processes."""

    def __init__(self, plan: Plan, etcd: FakeEtcd, freezer: Freezer, group: TaskGroup) -> None:
        timing = plan.timing
        self.plan = plan
        self.etcd = etcd
        self.freezer = freezer
        self.group = group
        self.network = Network(plan.seed)
        self.auth = Auth(enabled=plan.auth)
        self.journal = Journal(
            lease=timing.lease, renew=timing.renew, retry=timing.retry, tail=timing.lease,
            margin=timing.margin, slowest=timing.slowest,
        )  # fmt: skip
        self.outcome = Outcome(self.journal.lines)
        self.links: dict[tuple[str, int], Link] = {}
        self.ends: dict[str, list[ServerEnd]] = {}
        self.request_faults: dict[str, list[RequestFault]] = {}
        self.processes: dict[str, Process] = {}
        self.keeping_alive: Counter[str] = Counter()
        self.wounded: set[int] = set()
        """The members that a fault has. One fault a member at a time."""
        self.quiet = False
        """True once faults have ended and must not begin again."""
        self._lives: Counter[str] = Counter()
        self._awaited = self._reached_by = ""
        self._reached = anyio.Event()
        for process in plan.processes:
            self.request_faults[process.name] = []
            self.ends[process.name] = []
            for member in process.endpoints:
                link = self.links[process.name, member] = Link(self.network)
                link.set_latency(*plan.latency)
        for number in plan.early:
            etcd.members[number].answers_early = True
        etcd.fast_lease_keep_alive = plan.fast_keep_alive
        etcd.commit_hooks.append(self._committed)

    # Processes

    def start(self, name: str) -> None:
        """Start a process, or start it again."""
        process = next(one for one in self.plan.processes if one.name == name)
        self._lives[name] += 1
        self.processes[name] = started = Process(
            self.plan, process, self._lives[name], self.journal, self.poll, self.in_state
        )
        started.record("start", subject=name)
        started.start(self.group)

    def start_again(self, name: str, previous: Process) -> None:
        """Start a process after its previous life, unless that was done already."""
        if self.processes[name] is previous and not self.quiet:
            for link in self.links_of(name):
                link.refuses = False
            self.start(name)

    def crash(self, name: str) -> None:
        """Kill a process: it sends no more packets."""
        process = self.processes[name]
        self.poll()
        process.record("died")
        process.alive = False
        self.freezer.thaw(name)
        for link in self.links_of(name):
            link.reset()
            link.refuses = True
        process.scope.cancel()

    def links_of(self, name: str) -> list[Link]:
        """Return the links of a process, to each of its members."""
        return [link for (process, _), link in self.links.items() if process == name]

    def poll(self) -> None:
        """Record which processes lead, now."""
        before, after = self.journal.now(), self.journal.now()
        for process in self.processes.values():
            if process.alive:
                process.look(before, after, self._lease_left)

    def _lease_left(self, term: Term) -> float:
        """Return for how many seconds etcd keeps the lease of a term at least."""
        lessor = self.etcd._cluster.lessor
        left = lessor.remaining(term.lease_id, anyio.current_time()) if term.lease_id in lessor else 0.0
        # A key that moves may be on the new lease before the manager has received it.
        kv = self.etcd._cluster.store.keys.get(term.key.encode())
        if kv is not None and kv.lease != term.lease_id and kv.lease in lessor:
            left = max(left, lessor.remaining(kv.lease, anyio.current_time()))
        return left + 1e-6

    def _committed(self, commit: Commit) -> None:
        self.journal.commit(commit, REGISTER)
        self.poll()

    def resolve(self, target: str) -> str:
        """Return the name of a target's process."""
        if target in self.processes:
            return target
        states = {name: self.state_of(name) for name in self.processes}
        wanted = {"leader": STATES[4:], "next": ("next in line",), "waiting": ("waiting", "joining")}[target]
        return next((name for name, state in states.items() if state in wanted), next(iter(states)))

    def state_of(self, name: str) -> str:
        """Return what a process is doing."""
        process = self.processes[name]
        manager = process.manager
        scope, elector = manager._scope, manager._elector
        if not process.alive or (elector is None and scope is None):
            return "out"
        if scope is not None and not scope.released.is_set():
            if process.resigning:
                return "resigning"
            if scope.closed_at is not None:
                return "draining"
            return "renewing" if self.keeping_alive[name] else "leading"
        candidacy = None if elector is None else elector._candidacy
        if candidacy is None or not candidacy._joined.is_set():
            return "joining"
        return {Rank.WAITING: "waiting", Rank.NEXT_IN_LINE: "next in line"}.get(candidacy._position.rank, "joining")

    # The network

    async def connect(
        self, authority: str, tls: object, take: Callable[[], bytes], received: Callable[[bytes], bool]
    ) -> Transport:
        """Connect a process to a member. It replaces the library's function."""
        del tls
        run, _, place = authority.partition(":")[0].partition(".m")
        process = run.partition("-")[0]
        member = self.etcd.members[int(place)]
        link = self.links[process, int(place)]
        answered = anyio.Event()
        connection: TcpConnection | None = None

        def arrive() -> None:
            nonlocal connection
            # What a crashed process still runs, as its task is cancelled, must not reach etcd.
            exists = self.processes[process].run == run and self.processes[process].alive
            if exists and not link.refuses and _is_up(member):
                connection = TcpConnection(link)
            link.down.deliver(0.0, answered.set)

        link.up.deliver(0.0, arrive)
        await answered.wait()
        if connection is None:
            raise ConnectionRefusedError(f"{authority}: connection refused")
        if not connection.is_open:
            raise ConnectionResetError(f"{authority}: connection reset by peer")
        transport = open_transport(connection, take, received)
        end = ServerEnd(
            connection, self.etcd, member, self.auth, self.request_faults[process],
            lambda kind, request: self._on_request(process, kind, request), self.plan.max_streams,
        )  # fmt: skip
        self.ends[process] = [one for one in self.ends[process] if not one.lost] + [end]
        return transport

    def _on_request(self, process: str, kind: str, request: Any) -> None:
        self.outcome.requests += 1
        self.keeping_alive[process] = kind == "keep-alive"
        self.in_state(process)
        if kind == "revoke":
            self.processes[process].record("revoking", lease=request.lease_id)
        self.poll()

    # The run

    async def play(self, faults: Mapping[str, Fault]) -> None:
        """Start the processes, inject the faults, and let everything recover and end."""
        began = anyio.current_time()
        with anyio.CancelScope() as background:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.network.run)
                tasks.start_soon(self._keep_polling)
                for name in self.request_faults:
                    self.start(name)
                for action in self.plan.actions:
                    await anyio.sleep_until(began + action.at)
                    name = await self._find(action)
                    self.outcome.coverage[action.fault, self.state_of(name)] += 1
                    await faults[action.fault](self, name, action.seconds, random.Random(action.seed))
                await anyio.sleep_until(began + self.plan.seconds)
                await self._recover()
                await self._end()
                background.cancel()
        self.outcome.seconds = anyio.current_time() - began
        self.outcome.messages = self.network.messages

    async def _find(self, action: Action) -> str:
        """Return the process for an action. If the action names a state, wait until a process is in it."""
        if action.when:
            states = {name: self.state_of(name) for name in self.processes}
            if found := [name for name, state in states.items() if state == action.when]:
                return action.target if action.target in found else found[0]
            self._awaited, self._reached, self._reached_by = action.when, anyio.Event(), ""
            with anyio.move_on_after(2 * self.plan.timing.renew):
                await self._reached.wait()
            self._awaited = ""
            if self._reached_by:
                return self._reached_by
        return self.resolve(action.target)

    def in_state(self, process: str) -> None:
        """Let the next fault begin if it waits for the state in which a process is now."""
        if self._awaited and not self._reached_by and self.state_of(process) == self._awaited:
            self._reached_by = process
            self._reached.set()

    async def _keep_polling(self) -> None:
        while True:
            self.poll()
            await anyio.sleep(self.plan.timing.lease / 10)

    def delete(self, key: str) -> None:
        """Delete a key by hand, unless etcd has no leader now."""
        with suppress(EtcdLeaderError):
            self.etcd.delete(key)

    def inject(self, fault: str, name: str, note: str, **facts: Any) -> dict[str, Any]:
        """Record a fault. The returned line may be completed, such as by its end."""
        start = self.journal.now()
        facts = {"row": fault, "note": f"{name}: {note}", "start": start, "end": start, "cuts": [], **facts}
        facts["token"] = self.processes[name].token if name in self.processes else 0
        self.journal.write("injection", **facts)
        return self.journal.lines[-1]

    def for_a_while(self, seconds: float, end: Callable[[], None], line: dict[str, Any]) -> None:
        """End a fault after some seconds."""

        async def wait_and_end() -> None:
            await anyio.sleep(seconds)
            end()
            line["end"] = self.journal.now()

        self.group.start_soon(wait_and_end)

    async def _recover(self) -> None:
        """End all faults, and wait until there must be a leader."""
        timing = self.plan.timing
        await anyio.sleep(4 * timing.lease)  # every temporary fault is over by then
        self.quiet = True
        self.auth.allowed = True
        self.etcd.no_space = False
        for name in self.processes:
            self.request_faults[name].clear()
            for link in self.links_of(name):
                link.up.blocked = link.down.blocked = link.refuses = False
                link.set_latency(*self.plan.latency)
        for name, process in list(self.processes.items()):
            if process.alive and process.stopping and not process.ended.is_set():
                self.journal.write("stuck", what=f"stop() of {process.run} has not returned")
                process.scope.cancel()
            if not process.alive or process.ended.is_set() or process.stopping:
                self.start(name)
        await anyio.sleep(4 * timing.lease + 10)
        self.poll()
        leaders = [process.run for process in self.processes.values() if process.leads]
        if len(leaders) != 1:
            self.journal.write("stuck", what=f"{len(leaders)} leaders after all faults have ended: {leaders}")
        candidates = sum(key.startswith(f"{ELECTION}/".encode()) for key in self.etcd.keys())
        if candidates != len(self.processes):
            self.journal.write("stuck", what=f"{candidates} candidates of {len(self.processes)} processes")

    async def _end(self) -> None:
        async with anyio.create_task_group() as group:
            for process in self.processes.values():
                process.spawn(group, process.stop)
        for process in self.processes.values():
            with anyio.move_on_after(self.plan.timing.lease):
                await process.ended.wait()
                continue
            self.journal.write("stuck", what=f"{process.run} has not ended")
            process.scope.cancel()
        await anyio.sleep(3 * self.plan.timing.lease)
        for key in self.etcd.keys():
            if key.startswith(f"{ELECTION}/".encode()):
                self.journal.write("leftover", what=f"the key {key.decode()}")
        for lease in self.etcd.leases():
            self.journal.write("leftover", what=f"the lease {lease:x}")


def _is_up(member: FakeMember) -> bool:
    try:
        member.check_up()
    except EtcdUnavailableError:
        return False
    return True
