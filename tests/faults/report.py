"""The report of a run: ``report.md``, a timeline for each campaign, and the history, which can be checked again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.checker import Violation, check, worst_overlap
from tests.faults.figures import figures, row_results
from tests.faults.history import History
from tests.faults.loader import load
from tests.faults.schedule import MUST_HAVE
from tests.faults.steps import table
from tests.faults.timeline import timeline

__all__ = ("Outcome", "rows_below", "write_report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes:
        complaints: The number of other problems.
        injections: The number of injected faults.
        few: Rows of the must-have set that were injected fewer than three times.
    """

    violations: int
    complaints: int
    injections: int
    few: list[str]


def write_report(folder: Path, lines: Sequence[dict[str, Any]], facts: Mapping[str, object]) -> Outcome:
    """Write the report, the timelines and the history; return the result."""
    with (folder / "history.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    histories = load(lines)
    found = {name: check(history) for name, history in histories.items()}
    for name, history in histories.items():
        (folder / f"timeline-{name}.svg").write_text(timeline(history, found[name]), encoding="utf-8")
    if "main" in histories:
        (folder / "timeline.svg").write_text(timeline(histories["main"], found["main"]), encoding="utf-8")
    text = "\n".join(_report(histories, found, facts))
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    return Outcome(
        violations=sum(map(len, found.values())),
        complaints=sum(len(history.faults_of_the_suite) for history in histories.values()),
        injections=sum(len(history.injections) for history in histories.values()),
        few=rows_below(histories, 3),
    )


def _report(
    histories: Mapping[str, History], found: Mapping[str, Sequence[Violation]], facts: Mapping[str, object]
) -> Iterable[str]:
    violations = sum(map(len, found.values()))
    injections = sum(len(history.injections) for history in histories.values())
    overlap = max((worst_overlap(history) for history in histories.values()), default=-math.inf)
    yield "# Fault suite"
    yield ""
    yield f"**{'No violation' if not violations else f'{violations} VIOLATIONS'}** in {injections} injections."
    overlapped = f"{overlap:.3f} s" if overlap > 0 else f"none (the closest two came were {-overlap:.3f} s apart)"
    yield f"Worst overlap of two leaders: {overlapped}."
    yield ""
    for name, fact in facts.items():
        yield f"- {name}: {fact}"
    few = rows_below(histories, 3)
    yield f"- rows of the must-have set injected fewer than three times: {', '.join(few) or 'none'}"
    yield ""
    for name, history in histories.items():
        yield from _campaign(name, history, found[name])


def rows_below(histories: Mapping[str, History], floor: int) -> list[str]:
    """Return the must-have rows that were injected fewer times than ``floor``. Rows in many elections do not count."""
    alone = [history for history in histories.values() if not history.parts]
    counts = Counter(injection.row for history in alone for injection in history.injections)
    return [row for row in MUST_HAVE if counts[row] < floor]


def _campaign(name: str, history: History, violations: Sequence[Violation]) -> Iterable[str]:
    yield f"## Campaign `{name}`"
    yield ""
    yield f"Lease {history.lease:g} s, renew {history.renew:g} s, retry {history.retry:g} s, margin {history.margin:g} s."
    each = history.parts or [history]
    if history.parts:
        yield (
            f"{len(history.parts)} elections. Each of {len(history.backends)} processes campaigns in all of them, and each "
            f"election is checked separately. {_hand_overs(history)}"
        )
    beliefs = [belief for one in each for belief in one.beliefs]
    yield (
        f"{len(history.injections)} injections, {len(beliefs)} terms, {sum(len(one.keys) for one in each)} candidate "
        f"keys, {sum(len(one.writes) for one in each)} fenced writes accepted and {history.refused_writes} refused, "
        f"{len(each[0].reads)} linearizable reads. [Timeline](timeline-{name}.svg)."
    )
    if name != "memory":  # there tokens start again from low numbers
        written, late = history.unfenced
        yield f"Of {written} unguarded writes, {late} came after one with a higher token."
    yield ""
    if violations:
        yield "### Violations"
        yield ""
        yield from (f"- {violation.rule} at {violation.at:.3f}: {violation.text}" for violation in violations)
        yield ""
    if history.faults_of_the_suite:
        yield "### Other problems"
        yield ""
        yield from (f"- {complaint}" for complaint in history.faults_of_the_suite)
        yield ""
    yield "### Liveness"
    yield ""
    yield "| figure | goal | measured |"
    yield "| --- | --- | --- |"
    for figure in figures(history):
        yield f"| {figure.name} | {figure.goal} | {figure.text()} |"
    results = row_results(history)
    kept, expected = sum(result.kept for result in results), sum(result.expected for result in results)
    yield f"| L6 leadership kept where no fault should cost it | always | {kept} of {expected} |"
    yield ""
    yield "### By row"
    yield ""
    yield (
        "*Room* is the shortest time from the end of a belief to the first event or read that shows its key's end. It counts "
        "beliefs that end at most one lease after the fault. It may be negative where an operator takes the key away "
        "(A9, B9, D1 to D3)."
    )
    yield ""
    yield "| row | injections | leader on asyncio, on trio | kept | room | longest time without a leader |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for result in results:
        room = f"{min(result.slack):.3f} s" if result.slack else ""
        gap = f"{max(result.without_leader):.3f} s" if result.without_leader else ""
        keeps = f"{result.kept} of {result.expected}" if result.expected else ""
        led = f"{result.led_on['asyncio']}, {result.led_on['trio']}"
        yield f"| {result.row} | {result.count} | {led} | {keeps} | {room} | {gap} |"
    yield ""
    for result in results:
        yield from (f"- {result.row} cost leadership: {note}" for note in result.lost)
    yield ""
    yield from table(history)
    yield "### Injections and leaders"
    yield ""
    yield "| from | to | row | fault | leader before |"
    yield "| --- | --- | --- | --- | --- |"
    zero = min((belief.start for belief in beliefs), default=0.0)
    runs = {belief.token: belief.run for belief in beliefs}
    for injection in history.injections:
        led = f"{runs.get(injection.token, '?')} ({injection.token})" if injection.token else "none"
        yield (
            f"| {injection.start - zero:.1f} | {injection.end - zero:.1f} | {injection.row} | {injection.note} | {led} |"
        )
    yield ""
    if not history.parts:  # many elections have thousands of terms
        yield from _terms(history, zero)
    yield "### Errors that candidates reported"
    yield ""
    yield from (f"- {count} times: {error}" for error, count in sorted(history.errors.items()))
    yield ""


def _hand_overs(history: History) -> str:
    """Return a sentence with the number of hand-overs to another process."""
    changes = []
    for part in history.parts:
        beliefs = sorted(part.beliefs, key=lambda belief: belief.start)
        changes.append(sum(one.run != other.run for one, other in pairwise(beliefs)))
    return f"Hand-overs to another process: {sum(changes)}, of one election {min(changes)} to {max(changes)}."


def _terms(history: History, zero: float) -> Iterable[str]:
    yield "### Terms"
    yield ""
    yield "| token | process | from | to | seconds | ended by |"
    yield "| --- | --- | --- | --- | --- | --- |"
    reasons = {(work.run, work.token): work.reason for work in history.works}
    for belief in sorted(history.beliefs, key=lambda belief: belief.start):
        yield (
            f"| {belief.token} | {belief.run} | {belief.start - zero:.3f} | {belief.end - zero:.3f} | "
            f"{belief.end - belief.start:.3f} | {reasons.get((belief.run, belief.token)) or 'the end of its process'} |"
        )
    yield ""
