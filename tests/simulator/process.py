"""A simulated process: its managers, its work and what is recorded of both."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from etcdleader import (
    Config,
    EtcdConfig,
    EtcdLeaderError,
    EtcdLeaderManager,
    EtcdRegressedError,
    NotLeaderError,
    Term,
)
from etcdleader.etcd3 import etcd3
from etcdleader.testing.virtual_time import VirtualClock
from tests.simulator.freezing import PROCESS
from tests.simulator.journal import Journal
from tests.simulator.plan import Plan, ProcessPlan

__all__ = ("ELECTION", "REGISTER", "PlannedError", "Process")

ELECTION = "jobs"
REGISTER = "register"
_WORKS_ON = ("works", "works", "writes", "swallows", "hangs at its end")
"""The behaviours of work whose end leaves the term as it is."""
_BEHAVIOURS = ("works", "works", "works", "works", "returns", "raises", "swallows", "writes", "hangs at its end")


_PAUSE = 0.01
"""Seconds between two attempts to work."""


class PlannedError(Exception):
    """Raised by work and callbacks."""


class Process:
    """One life of a process, from its start to its end or crash.

    Attributes:
        name: The name of the process.
        run: The name of this life.
        manager: Its manager.
        alive: False after a crash. Nothing that its code still does is recorded.
        stopping: True once its end was requested.
        resigning: True while it resigns.
    """

    def __init__(
        self,
        plan: Plan,
        process: ProcessPlan,
        number: int,
        journal: Journal,
        poll: Callable[[], None],
        in_state: Callable[[str], None],
    ) -> None:
        self.name = process.name
        self.run = f"{process.name}-{number}"
        self.alive = True
        self.stopping = self.resigning = False
        self._plan = plan
        self._journal = journal
        self._poll = poll
        self._in_state = in_state
        self._work = process.work
        self._random = random.Random(process.seed * 1000 + number)
        self.clock = VirtualClock(process.rate)
        timing = plan.timing
        config = Config(
            enabled=True, id=self.run, lease=timing.lease, renew=timing.renew, retry=timing.retry, margin=timing.margin
        )
        endpoints = [f"{self.run}.m{member}:2379" for member in process.endpoints]
        user, password = ("sim", "canary-in-the-mine") if plan.auth else (None, None)
        etcd = EtcdConfig(endpoints, user=user, password=password, allow_plaintext_password=plan.auth)
        self.manager = EtcdLeaderManager(etcd, config, ELECTION, clock=self.clock)
        self.manager.on_ousted(self._ousted)
        if self._work == "callback":
            self.manager.on_elected(lambda manager, term: self._elected(term))
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self._token = 0
        self._last = 0.0

    def start(self, group: TaskGroup) -> None:
        """Start its campaign."""
        self.spawn(group, self._campaign)

    def spawn(self, group: TaskGroup, function: Callable[[], Any]) -> None:
        """Run a function in this process."""
        token = PROCESS.set(self.name)
        group.start_soon(function)
        PROCESS.reset(token)

    def record(self, kind: str, **facts: Any) -> float:
        """Write a line in this process's name. Return its time."""
        return self._journal.write(kind, run=self.run, **facts) if self.alive else 0.0

    async def _campaign(self) -> None:
        try:
            with self.scope:
                while self.alive and not self.stopping:
                    try:
                        await self._campaign_once()
                    except PlannedError:
                        self.record("campaign failed as planned")
                    except EtcdRegressedError as error:
                        self.record("regressed", error=str(error))
        finally:
            self.ended.set()

    async def _campaign_once(self) -> None:
        if self._work == "run":
            await self.manager.run(self._elected)
            return
        if self._work == "callback":
            await self.manager.campaign()
            return
        regressed: EtcdRegressedError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._work_in_blocks if self._work == "leading" else self._work_in_steps)
            try:
                await self.manager.campaign()
            except EtcdRegressedError as error:
                regressed = error
            group.cancel_scope.cancel()
        if regressed is not None:
            raise regressed

    async def _work_in_blocks(self) -> None:
        while True:
            with suppress(NotLeaderError):
                async with self.manager.leading() as term:
                    await self._elected(term)
            await anyio.sleep(_PAUSE)

    async def _work_in_steps(self) -> None:
        token = 0
        while True:
            async with self.manager.step() as term:
                if term is not None and self.alive:
                    era = self._journal.era_of(term.key)
                    if term.token != token:
                        token = term.token
                        self.record("work", token=token, key=term.key, lease=term.lease_id, era=era)
                    await anyio.sleep(self._plan.timing.renew * self._random.random())
                    # The end of the last step is that of the work.
                    self.record("work over", token=token, last=self._journal.now(), late=[], era=era)
            await anyio.sleep(_PAUSE + self._plan.timing.renew * self._random.random())

    async def stop(self) -> None:
        """Stop the campaign permanently."""
        self.stopping = True
        self.record("stopping")
        await self.manager.stop()
        self.record("stopped")

    # Its leadership

    def look(self, before: float, after: float, lease_left: Callable[[Term], float]) -> bool:
        """Record a change of ``is_leader()``, and return its value. No code runs between the two times."""
        term = self.manager.term
        token = 0 if term is None else term.token
        if self._token and token != self._token:
            self.record("over", token=self._token, last=self._last)
            self._token = 0
        if term is None:
            return False
        if not self._token:
            self._token = token
            self.record("belief", subject=self.name, token=token, since=before, era=self._journal.era_of(term.key))
        self._last = after
        trusted = term.remaining() / self.clock.rate
        if trusted > (left := lease_left(term)):
            self.record("trusted too long", token=token, trusted=trusted, left=left, era=self._journal.era_of(term.key))
        return True

    @property
    def leads(self) -> bool:
        """True while ``is_leader()`` is."""
        return self.manager.is_leader()

    @property
    def token(self) -> int:
        """The token with which it leads, or 0."""
        term = self.manager.term
        return 0 if term is None else term.token

    async def _elected(self, term: Term) -> None:
        if not self.alive:
            return
        self._poll()
        era = self._journal.era_of(term.key)
        self.record("work", token=term.token, key=term.key, lease=term.lease_id, era=era)
        late: list[float] = []
        last = self._journal.now()
        behaviour = self._random.choice(_WORKS_ON if self._work == "leading" else _BEHAVIOURS)
        until = anyio.current_time() + self._random.uniform(0, 2 * self._plan.timing.lease)
        step = self._plan.timing.renew * self._random.choice((0.1, 1.0))
        try:
            while True:
                last = self._journal.now()
                if not term.is_valid():
                    late.append(last)
                if behaviour == "writes":
                    await self._write(term)
                if anyio.current_time() >= until:
                    if behaviour == "raises":
                        raise PlannedError
                    if behaviour == "returns":
                        return
                await anyio.sleep(step * self._random.uniform(0.5, 1.5))
        finally:
            self._in_state(self.name)
            if behaviour in ("swallows", "hangs at its end"):
                longest = self._plan.timing.lease * (2 if behaviour == "swallows" else 0.1)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self._random.uniform(0, longest))
                last = self._journal.now()
            self.record("work over", token=term.token, last=last, late=late[:1] + late[-1:], era=era)

    async def _write(self, term: Term) -> None:
        """Write to the register, guarded by the token."""
        put = etcd3.Transactions().put(REGISTER, f"{term.token}:{self.run}")
        with suppress(EtcdLeaderError):
            done, _ = await term.transaction([put])
            if not done:
                self.record("write refused", token=term.token)

    async def _ousted(self, manager: object, term: Term) -> None:
        reason = term.loss_reason
        self.record("ousted", token=term.token, reason=reason.value if reason else None)
        if self._random.random() < 0.1:
            await anyio.sleep(self._plan.timing.retry * self._random.random())
