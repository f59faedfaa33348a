"""The plan of a run: its cluster, its processes and its faults, drawn from a seed, as plain data.

A plan is drawn once, and then played. So a plan can be printed, kept in a file, and made shorter.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ("SHORT_STATES", "Action", "Plan", "ProcessPlan", "Timing", "draw_plan")

_FAULT_EVERY = 2.0
"""Seconds between two faults, on average, of a lease of ten seconds."""


SHORT_STATES = ("joining", "next in line", "renewing", "draining", "resigning")
"""States that last for a moment only. A fault at a random time seldom meets them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The settings of all candidates, in seconds."""

    lease: float
    renew: float
    retry: float
    margin: float

    @property
    def slowest(self) -> float:
        """The slowest rate of a clock. Three fifths of what the margin allows, because etcd's clock drifts, too."""
        return 1 - 0.6 * self.margin / self.lease

    @property
    def fastest(self) -> float:
        """The fastest rate of a clock."""
        return 1 + 0.6 * self.margin / self.lease


TIMINGS = (
    Timing(10, 2, 3, 1),
    Timing(10, 3, 1.5, 1),
    Timing(5, 1, 1, 0.5),
    Timing(15, 4, 2, 1.5),
    Timing(60, 15, 5, 3),
)
"""The first allows a response to be late by more than the margin. The last is the default."""


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process.

    Attributes:
        name: Its name.
        rate: The rate of its clock.
        endpoints: The members that it may connect to, in order.
        work: Its kind of work: ``callback``, ``run``, ``leading`` or ``step``.
        seed: The seed of its work's behaviour.
    """

    name: str
    rate: float
    endpoints: tuple[int, ...]
    work: str
    seed: int


@dataclass(frozen=True, slots=True)
class Action:
    """One fault.

    Attributes:
        at: When it begins, in seconds from the start.
        fault: Its name in ``tests.simulator.faults``.
        target: A process's name, ``leader``, ``next`` or ``waiting``. The last three are resolved when it begins.
        when: A state. The fault waits, for a while, until a process is in it, and begins there. Empty: it begins at once.
        seconds: How long it lasts, where it lasts.
        seed: The seed of its details.
    """

    at: float
    fault: str
    target: str
    seconds: float
    seed: int
    when: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run.

    Attributes:
        seed: The seed of the network, of etcd and of the library's random numbers.
        seconds: For how long faults are injected.
        members: How many members etcd has.
        election_timeout: etcd's election timeout.
        auth: Whether etcd requires tokens.
        fast_keep_alive: Whether etcd answers a keep-alive before it has applied what was committed, as 3.7 does.
        max_streams: The limit of streams of a connection, or None.
        latency: The bounds of a packet's latency.
        early: The members that answer a write before they adopt the raft term of its entry.
    """

    seed: int
    seconds: float
    members: int
    election_timeout: float
    auth: bool
    fast_keep_alive: bool
    max_streams: int | None
    latency: tuple[float, float]
    early: tuple[int, ...]
    timing: Timing
    processes: tuple[ProcessPlan, ...]
    actions: tuple[Action, ...]

    def to_json(self) -> str:
        """Return it as JSON, one action a line."""
        facts = asdict(self)
        actions = ",\n    ".join(json.dumps(action) for action in facts.pop("actions"))
        body = json.dumps(facts, indent=2)
        return body[:-2] + f',\n  "actions": [\n    {actions}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that ``to_json`` wrote."""
        facts: dict[str, Any] = json.loads(text)
        facts["timing"] = Timing(**facts["timing"])
        facts["latency"], facts["early"] = tuple(facts["latency"]), tuple(facts["early"])
        facts["processes"] = tuple(
            ProcessPlan(**{**one, "endpoints": tuple(one["endpoints"])}) for one in facts["processes"]
        )
        facts["actions"] = tuple(Action(**one) for one in facts["actions"])
        return cls(**facts)


def draw_plan(seed: int, faults: Sequence[str], *, seconds: float | None = None) -> Plan:
    """Draw a plan.

    Args:
        seed: The seed.
        faults: The names of the faults to draw from. A name that is there twice is drawn twice as often.
        seconds: For how long faults are injected. By default it depends on the lease.
    """
    rng = random.Random(seed)
    timing = rng.choices(TIMINGS, (5, 2, 2, 1, 1))[0]
    pace = timing.lease / 10
    members = rng.choices((3, 5, 1), (6, 2, 1))[0]
    length = seconds if seconds is not None else rng.choice((120, 240, 480)) * pace
    processes = tuple(
        _draw_process(rng, number, members, timing) for number in range(rng.choices((2, 3, 4, 5), (1, 3, 2, 1))[0])
    )
    # A run has few kinds of faults, often. So the same ones meet in each state, and runs differ.
    chosen = [rng.choice(faults) for _ in range(rng.randint(2, 9))]
    targets = ("leader", "leader", "leader", "next", "waiting", *(process.name for process in processes))
    actions = []
    at = rng.uniform(0, 2 * pace)
    every = _FAULT_EVERY * pace * rng.choice((0.5, 1, 2, 4))
    while at < length:
        actions.append(
            Action(
                at=round(at, 6),
                fault=rng.choice(chosen),
                target=rng.choice(targets),
                seconds=round(_draw_seconds(rng, timing), 6),
                seed=rng.randrange(1 << 32),
                when=rng.choice(SHORT_STATES) if rng.random() < 0.3 else "",
            )
        )
        at += rng.expovariate(1 / every)
    return Plan(
        seed=seed,
        seconds=length,
        members=members,
        election_timeout=rng.choice((1.0, timing.margin * 3)),
        auth=rng.random() < 0.2,
        fast_keep_alive=rng.random() < 0.7,
        max_streams=rng.choice((None, None, None, 100, 4)),
        latency=rng.choice(((0.0002, 0.0006), (0.001, 0.003), (0.0, 0.05), (0.02, 0.2))),
        early=tuple(number for number in range(members) if rng.random() < 0.5),
        timing=timing,
        processes=processes,
        actions=tuple(actions),
    )


def _draw_process(rng: random.Random, number: int, members: int, timing: Timing) -> ProcessPlan:
    order = rng.sample(range(members), members)
    if rng.random() < 0.3:
        order = order[:1]
    rate = rng.choice((1.0, rng.uniform(timing.slowest, timing.fastest), timing.slowest))
    work = rng.choice(("callback", "run", "leading", "step"))
    return ProcessPlan(f"p{number}", rate, tuple(order), work, rng.randrange(1 << 32))


def _draw_seconds(rng: random.Random, timing: Timing) -> float:
    longest = rng.choice((0.1 * timing.retry, timing.renew, timing.lease, 2 * timing.lease))
    return rng.uniform(0, longest)
