"""Make a failing plan short, and keep it in the corpus.

    python -m tests.simulator.shrink 4711 late-watch           # a seed, and a name for the file

The short plan violates one of the same rules. It is kept in ``tests/sim/corpus``, and each run of the suite replays it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.simulator.plan import Action, Plan
from tests.simulator.run import backend_of
from tests.simulator.verdict import Backend, judge, plan_of

__all__ = ("CORPUS", "main", "shrink")

CORPUS = Path(__file__).parents[1] / "sim" / "corpus"
_TRIES = 400


def shrink(plan: Plan, fails: Callable[[Plan], bool], *, tries: int = _TRIES) -> Plan:
    """Return a shorter plan that still fails.

    Actions are left out, in halves, quarters and so on, then processes and properties of the cluster, one at a time.

    Args:
        plan: A plan that fails.
        fails: Returns whether a plan fails in the same way.
        tries: The largest number of plans to try.
    """
    left = tries

    def still_fails(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(candidate)

    # Nothing after the last action that matters is needed, and often the failure comes long before the end.
    for seconds in (plan.seconds / 4, plan.seconds / 2):
        shorter = _cut(plan, seconds)
        if still_fails(shorter):
            plan = shorter
            break
    plan = _without_actions(plan, still_fails)
    for process in plan.processes[1:]:
        fewer = replace(
            plan,
            processes=tuple(one for one in plan.processes if one != process),
            actions=tuple(action for action in plan.actions if action.target != process.name),
        )
        if still_fails(fewer):
            plan = fewer
    for simpler in (
        {"auth": False}, {"max_streams": None}, {"early": ()}, {"fast_keep_alive": False}, {"latency": (0.0002, 0.0006)},
        {"processes": tuple(replace(process, rate=1.0) for process in plan.processes)},
    ):  # fmt: skip
        candidate = replace(plan, **simpler)
        if candidate != plan and still_fails(candidate):
            plan = candidate
    plan = _without_actions(plan, still_fails)
    last = max((action.at + action.seconds for action in plan.actions), default=0.0) + plan.timing.lease
    return cut if (cut := _cut(plan, min(plan.seconds, last))) == plan or still_fails(cut) else plan


def _cut(plan: Plan, seconds: float) -> Plan:
    return replace(plan, seconds=seconds, actions=tuple(one for one in plan.actions if one.at < seconds))


def _without_actions(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    size = max(1, len(plan.actions) // 2)
    while True:
        at = 0
        while at < len(plan.actions):
            kept: tuple[Action, ...] = plan.actions[:at] + plan.actions[at + size :]
            candidate = replace(plan, actions=kept)
            if fails(candidate):
                plan = candidate
            else:
                at += size
        if size == 1:
            return plan
        size //= 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.shrink", description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("name", help="what the plan shows: the file's name")
    parser.add_argument("--backend", choices=("asyncio", "trio"))
    options = parser.parse_args(arguments)
    plan, backend = plan_of(options.seed), options.backend or backend_of(options.seed)
    rules = judge(plan, backend).rules
    if not rules:
        print(f"seed {options.seed} violates nothing on {backend}", file=sys.stderr)
        return 2

    def fails(candidate: Plan, backend: Backend = backend) -> bool:
        return bool(set(judge(candidate, backend).rules) & set(rules))

    short = shrink(plan, fails)
    path = CORPUS / f"{options.name}.{backend}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(short.to_json(), encoding="utf-8")
    print(f"{len(plan.actions)} actions -> {len(short.actions)}; {', '.join(rules)}; {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
