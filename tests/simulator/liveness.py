"""Checks of the time until a leader, a release or an end in a simulated run, where no other fault is at work. Pure.

- L1: after the crash of a leader, there is another one once its lease has expired.
- L4: after a release, the next candidate leads within a few round trips.
- L8: ``stop()`` returns soon after the work has ended, also without etcd.

A fault that is still at work may delay each of them. So these checks apply to the quiet moments of a run only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.faults.checker import Violation
from tests.faults.history import History, Injection

__all__ = ("check_liveness",)

_GIVEN_UP = ("resigned", "stopped")
_LASTING = ("lose_request", "lose_response", "delay", "fail")
"""Faults that wait for the requests that they hit."""


def check_liveness(history: History, round_trip: float, election_timeout: float) -> list[Violation]:
    """Return what took too long.

    Args:
        history: The history.
        round_trip: The longest round trip of the plan's network, in seconds.
        election_timeout: etcd's election timeout.
    """
    violations = [*_l1(history, round_trip, election_timeout), *_l4(history, round_trip), *_l8(history)]
    return sorted(violations, key=lambda violation: violation.at)


def _l1(history: History, round_trip: float, election_timeout: float) -> Iterator[Violation]:
    bound = history.lease + election_timeout + 1 + 6 * round_trip
    for injection in history.injections:
        if injection.crashed and injection.token and _is_quiet(history, injection.start, bound, injection):
            yield from _late(history, "L1", "the crash of the leader", injection.start, bound, injection.token)


def _l4(history: History, round_trip: float) -> Iterator[Violation]:
    bound = 6 * round_trip + 0.1
    for work in history.works:
        seen = history.keys.get((work.era, work.token))
        if work.reason not in _GIVEN_UP or seen is None or seen.gone_seen is None:
            continue
        waiting = any(
            key.era == work.era and key.token > work.token and key.put_seen < seen.gone_seen - 2 * history.retry
            and (key.gone_seen is None or key.gone_seen > seen.gone_seen + bound)
            for key in history.keys.values()
        )  # fmt: skip
        if waiting and _is_quiet(history, seen.gone_seen, bound, None):
            yield from _late(history, "L4", f"the release of {work.token}", seen.gone_seen, bound, work.token)


def _late(history: History, rule: str, after: str, at: float, bound: float, token: int) -> Iterator[Violation]:
    starts = [belief.start for belief in history.beliefs if belief.start > at and belief.token != token]
    if (took := min(starts, default=math.inf) - at) > bound:
        yield Violation(rule, f"{took:.3f} s passed from {after} to the next leader; at most {bound:.3f} s should", at)


def _l8(history: History) -> Iterator[Violation]:
    for stop in history.stops:
        ends = [work.end for work in history.works if work.run == stop.run and work.end is not None]
        busy = max([stop.asked, *(end for end in ends if end <= stop.done)])
        frozen = [
            one.end for one in history.injections if one.row == "freeze" and one.start < stop.done and one.end > busy
        ]
        # Callbacks and etcd may each take `retry`, and a hand-over in progress, too.
        bound = max([busy, *frozen]) + 4 * history.retry + 1
        if stop.done > bound:
            yield Violation(
                "L8", f"stop() of {stop.run} returned {stop.done - busy:.3f} s after its work had ended", busy
            )


def _is_quiet(history: History, at: float, seconds: float, of: Injection | None) -> bool:
    """Return whether no other fault is at work around these seconds."""
    before = at - 2 * history.lease
    return not any(
        other is not of and other.start < at + seconds and (other.end > before or other.row in _LASTING)
        for other in history.injections
    )
