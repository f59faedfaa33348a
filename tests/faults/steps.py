"""The cost of each step of an upgrade: leaderships, and the longest time between two confirmed renewals. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.figures import kept
from tests.faults.history import History, Injection

__all__ = ("Step", "steps", "table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The replacement of one member.

    Attributes:
        seconds: From the signal to the end of the observation.
        led: The number of elections with a leader at its beginning.
        kept: The number of those that still had the same leader at its end.
        led_by: In a campaign of one election: its leader, and the leader's backend.
        unrenewed: The longest time between two successive renewals of any leader, or None without renewals.
    """

    row: str
    note: str
    seconds: float
    led: int
    kept: int
    led_by: str
    unrenewed: float | None


def steps(history: History) -> list[Step]:
    """Return the steps of one campaign. With many elections, each step covers all of them."""
    each = history.parts or [history]
    return [
        _step(number, injection, each, led_by=_led_by(history, injection))
        for number, injection in enumerate(history.injections)
    ]


def table(history: History) -> Iterator[str]:
    """Yield the lines of a table in Markdown, or none if no renewals were recorded."""
    if not any(part.renewals for part in history.parts or [history]):
        return
    yield "### Each step"
    yield ""
    yield "| step | fault | leader | seconds | longest time between two renewals | leaderships kept |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for step in steps(history):
        unrenewed = "" if step.unrenewed is None else f"{step.unrenewed:.2f} s"
        yield (
            f"| {step.row} | {step.note} | {step.led_by} | {step.seconds:.1f} | {unrenewed} | "
            f"{step.kept} of {step.led} |"
        )
    yield ""


def _step(number: int, whole: Injection, each: Sequence[History], *, led_by: str) -> Step:
    seen = [(part, part.injections[number]) for part in each]
    led = [(part, injection) for part, injection in seen if injection.token]
    gaps = [gap for part, injection in led for gap in _gaps(part, injection)]
    return Step(
        row=whole.row, note=whole.note, seconds=whole.end - whole.start, led=len(led),
        kept=sum(kept(part.beliefs, injection) for part, injection in led), led_by=led_by,
        unrenewed=max(gaps, default=None),
    )  # fmt: skip


def _led_by(history: History, injection: Injection) -> str:
    led = {belief.token: belief for belief in history.beliefs}.get(injection.token)
    return f"{led.subject}, {history.backends.get(led.subject, '')}" if led is not None and not history.parts else ""


def _gaps(part: History, injection: Injection) -> Iterator[float]:
    """Yield the times between renewals that overlap the step. The last one lasts until the end of the belief."""
    for belief in part.beliefs:
        if belief.token != injection.token:
            continue
        sent = sorted([*part.renewals.get((belief.run, belief.token), ()), belief.end])
        for before, after in pairwise(sent):
            if before < injection.end and after > injection.start:
                yield after - before
