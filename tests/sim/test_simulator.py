"""The simulator: the library down to its bytes, on a network, a cluster and processes that a plan makes fail."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.checker import CHECKS
from tests.faults.timeline import timeline
from tests.simulator.faults import FAULTS
from tests.simulator.plan import Action, Plan, ProcessPlan, Timing, draw_plan
from tests.simulator.shrink import CORPUS, shrink
from tests.simulator.verdict import FAULT_NAMES, Backend, judge, plan_of
from tests.simulator.world import Outcome

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
UNNOTICED = ("compact", "no_space", "unapplied")
"""Faults without an effect on a healthy election. They matter to candidates that join, and to watches that break."""
FRESH = 12
"""Seeds of each run of the suite. Thousands are played by ``make sim``."""


def quiet_plan(*actions: Action, processes: int = 2, seconds: float = 20) -> Plan:
    """Return a plan of a healthy cluster, with these faults only."""
    return Plan(
        seed=1, seconds=seconds, members=3, election_timeout=1.0, auth=False, fast_keep_alive=True, max_streams=None,
        latency=(0.0002, 0.0006), early=(), timing=Timing(10, 2, 1, 1),
        processes=tuple(ProcessPlan(f"p{number}", 1.0, (0, 1, 2), "callback", number) for number in range(processes)),
        actions=actions,
    )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(FRESH))
def test_a_fresh_seed_violates_nothing(seed: int, backend: Backend) -> None:
    verdict = judge(plan_of(seed, seconds=60), backend)
    assert verdict.violations == []


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_a_plan_of_the_corpus_violates_nothing_any_more(path: Path) -> None:
    """Each of them violated something once."""
    backend: Backend = "trio" if path.stem.endswith("trio") else "asyncio"
    assert judge(Plan.from_json(path.read_text(encoding="utf-8")), backend).violations == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plan_is_a_run_bit_for_bit(backend: Backend) -> None:
    first, second = (judge(plan_of(8, seconds=60), backend).outcome.lines for _ in range(2))
    assert len(first) > 30
    assert first == second


def test_a_plan_survives_its_file() -> None:
    plan = plan_of(3)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_crashed_leader_is_succeeded_and_comes_back(backend: Backend) -> None:
    crash = Action(at=5, fault="crash", target="leader", seconds=3, seed=1)
    history = judge(quiet_plan(crash), backend).history
    assert history is not None
    assert len({belief.run for belief in history.beliefs}) == 2
    assert [injection.row for injection in history.injections] == ["crash"]
    assert len(history.died) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_frozen_leader_loses_its_term_before_the_next_one_begins(backend: Backend) -> None:
    freeze = Action(at=5, fault="freeze", target="leader", seconds=18, seed=1)
    verdict = judge(quiet_plan(freeze, seconds=40), backend)
    assert verdict.violations == []
    assert verdict.history is not None
    first, second = sorted(verdict.history.beliefs, key=lambda belief: belief.start)[:2]
    assert first.subject != second.subject
    frozen = verdict.history.injections[0]
    assert frozen.start < second.start < frozen.end
    late = [work for work in verdict.history.works if work.token == first.token]
    assert late[0].end is not None
    assert late[0].end >= frozen.end, "no task of a frozen process runs"


@functools.cache
def quiet_outcome(backend: Backend) -> Outcome:
    """Return the outcome of a run without a fault."""
    return judge(replace(quiet_plan(processes=3), auth=True), backend).outcome


def observed(outcome: Outcome) -> tuple[int, int, list[str]]:
    """Return what a fault may change: the requests, the packets, and the kinds of the journal's other lines."""
    kinds = [line["kind"] for line in outcome.lines if line["kind"] != "injection"]
    return outcome.requests, outcome.messages, kinds


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_begins_at_a_leader_and_has_an_effect(fault: str, backend: Backend) -> None:
    """Try several seeds: a seed decides, for example, which kind of request a fault hits."""
    has_effect = False
    for seed in range(1 if fault in UNNOTICED else 12):
        action = Action(at=5, fault=fault, target="leader", seconds=4, seed=seed)
        verdict = judge(replace(quiet_plan(action, processes=3), auth=True), backend)
        assert verdict.violations == []
        assert verdict.history is not None
        assert {injection.row for injection in verdict.history.injections} <= {fault}
        assert verdict.outcome.coverage == {(fault, "leading"): 1}
        if has_effect := observed(verdict.outcome) != observed(quiet_outcome(backend)):
            break
    assert has_effect == (fault not in UNNOTICED)


def test_a_clock_that_is_too_slow_is_found() -> None:
    """The simulator finds what is not promised. So its silence means something."""
    found: list[str] = []
    for seed in range(6):
        plan = plan_of(seed, seconds=120)
        slow = tuple(replace(process, rate=0.5) for process in plan.processes)
        kept = tuple(action for action in plan.actions if action.fault != "drift")
        found += judge(replace(plan, processes=slow, actions=kept), "asyncio").rules
    assert {"S1", "S3"} <= set(found)


def test_a_failing_plan_is_made_short() -> None:
    plan = draw_plan(2, FAULT_NAMES, seconds=120)
    wanted = plan.actions[len(plan.actions) // 3], plan.actions[-2]

    def fails(candidate: Plan) -> bool:
        return all(action in candidate.actions for action in wanted)

    assert shrink(plan, fails).actions == wanted


def test_a_run_is_drawn() -> None:
    verdict = judge(quiet_plan(Action(5, "crash", "leader", 3, 1)), "asyncio")
    assert verdict.history is not None
    svg = timeline(verdict.history, verdict.violations)
    assert "crash" in svg
    assert svg.count("<rect") > 3


def test_every_rule_of_the_checker_is_used() -> None:
    assert {check.__name__[:2] for check in CHECKS} == {"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "l7"}
