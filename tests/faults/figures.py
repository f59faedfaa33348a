"""Figures that are measured but not asserted: liveness L1 to L8, hand-overs, and the cost of each fault. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from tests.faults.history import Belief, History, Injection

__all__ = ("Figure", "RowResult", "figures", "kept", "row_results")


_GIVEN_UP = ("resigned", "stopped", "failed")
_KILLED = 0.1
"""Seconds of a belief that a killed process may not have recorded. The next fault may kill it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Some measurements of one kind, in seconds."""

    name: str
    goal: str
    values: tuple[float, ...]

    def text(self) -> str:
        """Return the count, the median and the worst value."""
        if not self.values:
            return "none"
        ordered = sorted(self.values)
        median = ordered[len(ordered) // 2]
        return f"{len(ordered)} times, median {median:.3f} s, worst {ordered[-1]:.3f} s"


@dataclass(slots=True)
class RowResult:
    """The results of one row of the catalogue.

    Attributes:
        led_on: The number of injections for each backend of the leader at that time. There may have been no leader.
        kept: The number of times at which leadership was kept, of the ``expected`` times at which it should have been.
        slack: Seconds from the end of the last belief in a token to the first event or read that shows its key's end.
    """

    row: str
    count: int = 0
    led_on: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    expected: int = 0
    lost: list[str] = field(default_factory=list)
    slack: list[float] = field(default_factory=list)
    without_leader: list[float] = field(default_factory=list)


def figures(history: History) -> list[Figure]:
    """Return the liveness figures of one history. Many elections share one list of figures."""
    if not history.parts:
        return _figures(history)
    by_name = zip(*(_figures(part) for part in history.parts), strict=True)
    return [replace(same[0], values=tuple(value for figure in same for value in figure.values)) for same in by_name]


def _figures(history: History) -> list[Figure]:
    crash: list[float] = []
    heal: list[float] = []
    noticed: list[float] = []
    releases: list[float] = []
    for injection in history.injections:
        if injection.crashed:
            # The crash comes just after the injection began, so this is an upper bound.
            crash += _until(_next(history, injection.token, injection.start), injection.start)
        elif not _led_at(history, injection.end):
            heal += _until(_next(history, -1, injection.end), injection.end)
        if injection.row in ("D1", "D2", "D3", "M1", "M2"):
            taken = {injection.token} & set(injection.deleted)
            noticed += [belief.end - injection.start for belief, _ in _ended(history, taken)]
        if injection.row in ("C6", "C8", "stop"):
            releases += _released(history, injection)
    bound = history.lease + 1
    return [
        Figure("L1 crash to the next leader", f"≤ {bound:g} s", tuple(crash)),
        Figure("L4 work ended to the next leader", "≤ 0.05 s typically", tuple(releases)),
        Figure("L5 key or lease about to be taken away to belief ended", "≤ 0.1 s", tuple(noticed)),
        Figure("L7 end of a fault without a leader to the next leader", f"≤ {history.lease + 2:g} s", tuple(heal)),
        Figure(
            "L8 stop() called to returned", "≤ one attempt", tuple(stop.done - stop.asked for stop in history.stops)
        ),
    ]


def row_results(history: History) -> list[RowResult]:
    """Return each row's results: L6 and the remaining room. Many elections are counted together."""
    if not history.parts:
        return _row_results(history)
    merged: dict[str, RowResult] = {}
    for result in (result for part in history.parts for result in _row_results(part)):
        whole = merged.setdefault(result.row, RowResult(result.row, count=result.count))
        whole.led_on += result.led_on
        whole.kept += result.kept
        whole.expected += result.expected
        whole.lost += [note for note in result.lost if note not in whole.lost]
        whole.slack += result.slack
        whole.without_leader += result.without_leader
    return sorted(merged.values(), key=lambda result: _order(result.row))


def _row_results(history: History) -> list[RowResult]:
    results: dict[str, RowResult] = defaultdict(lambda: RowResult(""))
    deleted_by = {token: injection.row for injection in history.injections for token in injection.deleted}
    for injection in history.injections:
        result = results[injection.row]
        result.row = injection.row
        result.count += 1
        result.led_on[_backend(history, injection)] += 1
        if injection.keeps:
            result.expected += 1
            held = kept(history.beliefs, injection)
            result.kept += held
            if not held:
                result.lost.append(injection.note)
        for belief, gone in _ended(history, [injection.token]):
            if deleted_by.get(belief.token, injection.row) != injection.row:
                continue  # a later fault ended it
            if injection.start <= belief.end <= injection.end + history.lease:
                result.slack.append(gone - belief.end)
                following = _next(history, belief.token, belief.start)
                if following is not None:
                    result.without_leader.append(following.start - belief.end)
    return sorted(results.values(), key=lambda result: _order(result.row))


def _backend(history: History, injection: Injection) -> str:
    leaders = (
        belief.subject
        for belief in history.beliefs
        if belief.token == injection.token and belief.start <= injection.start
    )
    return history.backends.get(next(leaders, ""), "")


def _released(history: History, injection: Injection) -> list[float]:
    """Return the seconds from the end of released work to the next belief."""
    found = []
    for work in history.works:
        given_up = work.end is not None and injection.start <= work.end <= injection.end + 1
        if work.token == injection.token and work.end is not None and given_up and work.reason in _GIVEN_UP:
            found += _until(_next(history, work.token, work.end), work.end)
    return found


def kept(beliefs: Iterable[Belief], injection: Injection) -> bool:
    """Return whether the leader that the fault met still led at its end."""
    return any(
        belief.token == injection.token and belief.start <= injection.start and belief.end > injection.end - _KILLED
        for belief in beliefs
    )


def _ended(history: History, tokens: Collection[int]) -> list[tuple[Belief, float]]:
    """Return the beliefs in these tokens whose keys are gone, and when that was first seen."""
    found = []
    for belief in history.beliefs:
        seen = history.keys.get((belief.era, belief.token))
        if belief.token in tokens and seen is not None and seen.gone_seen is not None:
            found.append((belief, seen.gone_seen))
    return found


def _next(history: History, token: int, after: float) -> Belief | None:
    """Return the first belief in another token that began after a moment, or None."""
    candidates = [belief for belief in history.beliefs if belief.start > after and belief.token != token]
    return min(candidates, key=lambda belief: belief.start, default=None)


def _led_at(history: History, moment: float) -> bool:
    return any(belief.start <= moment <= belief.end for belief in history.beliefs)


def _until(belief: Belief | None, moment: float) -> list[float]:
    return [] if belief is None else [belief.start - moment]


def _order(row: str) -> tuple[str, int]:
    return row[:1], int(row[1:]) if row[1:].isdigit() else 0
