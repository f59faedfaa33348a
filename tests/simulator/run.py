"""Play many seeds, and report what was simulated, which faults met which states, and what did not hold.

    python -m tests.simulator.run --seeds 1000 --jobs 2
    python -m tests.simulator.run --first 17 --seeds 1 --backend trio --timeline build/sim/17.svg

Seeds with an even number run on asyncio, the others on trio. The exit status is 1 if an invariant did not hold.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.timeline import timeline
from tests.simulator.faults import FAULTS
from tests.simulator.verdict import Backend, Verdict, judge, plan_of
from tests.simulator.world import STATES

__all__ = ("Totals", "backend_of", "main")

_ROOT = Path(__file__).parents[2]


def backend_of(seed: int) -> Backend:
    """Return the event loop of a seed."""
    return "trio" if seed % 2 else "asyncio"


@dataclass
class Result:
    """One seed's result, small enough to be sent to another process."""

    seed: int
    backend: str
    simulated: float
    cpu: float
    beliefs: int
    requests: int
    coverage: Counter[tuple[str, str]]
    violations: list[tuple[str, float, str]]


@dataclass
class Totals:
    """The sum of all results."""

    runs: int = 0
    simulated: float = 0.0
    cpu: float = 0.0
    beliefs: int = 0
    requests: int = 0
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Add one result."""
        self.runs += 1
        self.simulated += result.simulated
        self.cpu += result.cpu
        self.beliefs += result.beliefs
        self.requests += result.requests
        self.coverage += result.coverage
        if result.violations:
            self.failed.append(result)

    def empty_cells(self) -> list[tuple[str, str]]:
        """Return the pairs of a fault and a state that no run had."""
        return [(fault, state) for fault in FAULTS for state in STATES[1:] if not self.coverage[fault, state]]


def run_seed(seed: int) -> Result:
    """Play one seed."""
    began = time.process_time()
    verdict = judge(plan_of(seed), backend_of(seed))
    return _result(seed, backend_of(seed), verdict, time.process_time() - began)


def _result(seed: int, backend: str, verdict: Verdict, cpu: float) -> Result:
    outcome = verdict.outcome
    return Result(
        seed, backend, outcome.seconds, cpu, 0 if verdict.history is None else len(verdict.history.beliefs),
        outcome.requests, outcome.coverage,
        [(violation.rule, violation.at, violation.text) for violation in verdict.violations],
    )  # fmt: skip


def _results(seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=4)


def report(totals: Totals, elapsed: float, jobs: int) -> Iterator[str]:
    """Yield the lines of the report."""
    days = totals.simulated / 86400
    yield (
        f"{totals.runs} seeds, {days:.2f} simulated days, {totals.beliefs} terms, {totals.requests} requests; "
        f"{sum(totals.coverage.values())} faults; {totals.cpu:.0f} s of CPU, {elapsed:.0f} s with {jobs} jobs"
    )
    if totals.cpu:
        yield (
            f"{totals.runs / totals.cpu:.1f} seeds and {totals.simulated / totals.cpu:.0f} simulated seconds a second "
            f"of a core; {540 * totals.cpu / totals.simulated if totals.simulated else 0:.2f} s of CPU for 540 simulated seconds"
        )
    yield ""
    yield f"{'fault':14}" + "".join(f"{state:>13}" for state in STATES)
    for fault in FAULTS:
        yield f"{fault:14}" + "".join(f"{totals.coverage[fault, state]:13}" for state in STATES)
    if empty := totals.empty_cells():
        yield ""
        yield "never together: " + ", ".join(f"{fault} while {state}" for fault, state in empty)
    yield ""
    for result in totals.failed:
        yield f"seed {result.seed} ({result.backend}):"
        for rule, at, text in result.violations[:5]:
            yield f"    {rule} at {at:.3f} s: {text}"
    yield f"{len(totals.failed)} seeds with violations"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.run", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--backend", choices=("asyncio", "trio"), help="play one seed on this loop")
    parser.add_argument("--timeline", type=Path, help="draw the run of one seed")
    options = parser.parse_args(arguments)
    if options.timeline is not None or options.backend is not None:
        return _one(options)
    began, totals = time.monotonic(), Totals()
    print(f"commit {_commit()}, seeds {options.first} to {options.first + options.seeds - 1}", flush=True)
    for result in _results(range(options.first, options.first + options.seeds), options.jobs):
        totals.add(result)
        if result.violations:
            print(
                f"seed {result.seed} ({result.backend}): {result.violations[0][0]}: {result.violations[0][2]}",
                flush=True,
            )
    for line in report(totals, time.monotonic() - began, options.jobs):
        print(line)
    return 1 if totals.failed else 0


def _one(options: Any) -> int:
    verdict = judge(plan_of(options.first), options.backend or backend_of(options.first))
    for violation in verdict.violations:
        print(f"{violation.rule} at {violation.at:.3f} s: {violation.text}")
    if options.timeline is not None and verdict.history is not None:
        options.timeline.parent.mkdir(parents=True, exist_ok=True)
        options.timeline.write_text(timeline(verdict.history, verdict.violations), encoding="utf-8")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
