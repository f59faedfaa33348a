"""Checks of a history against the safety invariants. Pure; ``python -m tests.faults.checker history.jsonl``.

- S1: no two beliefs overlap.
- S2: tokens rise, and are those that etcd has.
- S3: a belief lies within the life of its key. It is never extended while its candidate is cut off from a quorum.
- S4: tokens in the fenced register never fall.
- S5: a process runs one work at a time. It ends with its term, and no forked child runs it.
- S6: ``is_leader()`` is never True after False.
- S7: leadership is not released while the work runs.
- S8: no key and no lease is left behind.
- S9: no secret is in any log.
- S10: no leadership is lost to a former leader of etcd that wakes up.
- L7: after all faults have ended, there is a leader, and each process is in the queue.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tests.faults.history import GO, Belief, History, Key
from tests.faults.loader import load, read_lines

__all__ = ("CHECKS", "Violation", "check", "worst_overlap")

_RELEASED = ("resigned", "stopped", "failed")
_TAKEN_AWAY = ("deleted", "revoked")
_BLINK = 0.02
"""Seconds of tolerance for a bound that is computed, not observed."""
_BUSY = 0.5
"""Seconds that a process with hundreds of elections may need to detect a change in one of them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    rule: str
    text: str
    at: float


def check(history: History) -> list[Violation]:
    """Return all violations in order of time, up to the moment at which etcd's members disagree about their data."""
    found = [violation for one in CHECKS for violation in one(history) if not _after_corruption(history, violation)]
    for part in history.parts:
        found += [replace(violation, text=f"election {part.name}: {violation.text}") for violation in check(part)]
    return sorted(found, key=lambda violation: violation.at)


def _after_corruption(history: History, violation: Violation) -> bool:
    if history.corrupted is None:
        return False
    at, revision = history.corrupted
    return violation.at >= (revision if violation.rule == "S4" else at)


def worst_overlap(history: History) -> float:
    """Return the longest overlap of two beliefs in seconds, except those whose key an operator took away.

    The result is 0 or negative without an overlap, and minus infinity if there were no two beliefs.
    """
    own = max((overlap for overlap, _, _ in _overlaps(history)), default=-math.inf)
    return max((worst_overlap(part) for part in history.parts), default=own)


def _deleted(history: History) -> set[int]:
    """Return the tokens whose key or lease the operator took away."""
    return {token for injection in history.injections for token in injection.deleted}


def _overlaps(history: History) -> Iterator[tuple[float, Belief, Belief]]:
    deleted = _deleted(history)
    last: Belief | None = None
    for belief in sorted(history.beliefs, key=lambda belief: (belief.era, belief.token, belief.start)):
        if history.corrupted is not None and belief.start >= history.corrupted[0]:
            continue
        if last is not None and (belief.era, belief.token) != (last.era, last.token):
            yield last.end - belief.start, last, belief
        # An operator's deletion is detected a moment late; S3 bounds that moment.
        if belief.token not in deleted and (last is None or belief.end > last.end):
            last = belief


def s1_no_overlap(history: History) -> Iterator[Violation]:
    for overlap, first, second in _overlaps(history):
        if overlap > 0:
            yield Violation(
                "S1",
                f"{first.run} (token {first.token}) and {second.run} (token {second.token}) were both leader for "
                f"{overlap:.3f} s",
                second.start,
            )


def s2_tokens(history: History) -> Iterator[Violation]:
    deleted = _deleted(history)
    holders: dict[tuple[int, int], str] = {}
    highest = (0, 0)
    for belief in sorted(history.beliefs, key=lambda belief: belief.start):
        token = (belief.era, belief.token)
        if holders.setdefault(token, belief.run) != belief.run:
            yield Violation(
                "S2", f"{belief.run} and {holders[token]} led with the same token {belief.token}", belief.start
            )
        # A candidate whose key is taken away at the moment of its win detects both a moment late.
        seen = history.keys.get(token)
        gone = seen.gone_seen if seen is not None and belief.token in deleted else None
        too_late = gone is not None and gone < belief.start <= gone + _BUSY
        if token < highest and not too_late:
            yield Violation("S2", f"{belief.run} won with {belief.token} after {highest[1]} had won", belief.start)
        highest = max(highest, token)
    for work in history.works:
        seen = history.keys.get((work.era, work.token))
        if seen is None:
            yield Violation("S2", f"{work.run} led with {work.token}, which is no key's create_revision", work.start)
        elif seen.key != work.key or work.lease not in seen.leases:
            yield Violation(
                "S2", f"{work.run} led with {work.token}, but its key is {seen.key}, of another candidate", work.start
            )


def s3_subset(history: History) -> Iterator[Violation]:
    deleted = _deleted(history)
    for belief in history.beliefs:
        tail = _tail(history, belief, deleted)
        seen = history.keys.get((belief.era, belief.token))
        gone = seen.gone_seen if seen is not None else None
        if gone is not None and belief.end > gone + tail:
            yield Violation(
                "S3",
                f"{belief.run} was leader for {belief.end - gone:.3f} s after the end of its key {belief.token}",
                gone,
            )
        yield from _contradicted(history, belief, tail)
        yield from _extended_while_cut_off(history, belief)
        yield from _unrenewed(history, belief)
    for moment in history.overtrusted:
        if moment.token not in deleted:
            yield Violation(
                "S3",
                f"{moment.run} trusts its lease (token {moment.token}) for {moment.trusted:.3f} s, and etcd keeps it for "
                f"{moment.left:.3f} s",
                moment.at,
            )


def _tail(history: History, belief: Belief, deleted: set[int]) -> float:
    """Return the seconds for which a belief may outlast its key: none, unless an operator took the key away.

    In that case it may last until the next confirmed renewal. If the candidate was cut off, it may last until its deadline.
    """
    if belief.token not in deleted:
        return 0.0
    cut_off = any(
        cut.subject == belief.subject and cut.start < belief.end and belief.start < cut.end
        for injection in history.injections
        for cut in injection.cuts
    )
    return max(history.lease if cut_off else history.renew + 2 * history.retry + _BLINK, history.tail)


def _contradicted(history: History, belief: Belief, tail: float) -> Iterator[Violation]:
    for read in history.reads:
        if read.era != belief.era:
            continue
        if read.sent > belief.start and (read.revision < belief.token or 0 < read.owner < belief.token):
            yield Violation(
                "S3", f"{belief.run} was leader with {belief.token} before its key was the first one", belief.start
            )
            return
        over = read.revision >= belief.token and read.owner != belief.token
        if over and not 0 < read.owner < belief.token and read.received + tail < belief.end:
            yield Violation(
                "S3", f"{belief.run} was leader with {belief.token} after a read showed another leader", read.received
            )
            return


def _extended_while_cut_off(history: History, belief: Belief) -> Iterator[Violation]:
    for injection in history.injections:
        for cut in injection.cuts:
            if cut.subject != belief.subject or not belief.start < cut.start < belief.end:
                continue
            deadline = cut.start + history.longest_trust + _BLINK
            if deadline < belief.end and deadline < cut.end:
                yield Violation(
                    "S3",
                    f"{belief.run} (token {belief.token}), cut off by {injection.row}, was leader "
                    f"{belief.end - deadline:.3f} s longer than its earlier requests can justify",
                    deadline,
                )


def _unrenewed(history: History, belief: Belief) -> Iterator[Violation]:
    """Yield beliefs that last longer than their newest keep-alive can justify.

    Each belief rests on a request for its own lease that was sent less than `lease - margin` before. A request passes the
    proxy after it was sent. A term begins after its lease was requested, and a key moves to another lease after that lease
    was requested. So this bound is never too short.
    """
    seen = history.keys.get((belief.era, belief.token))
    if not history.keep_alives or seen is None or history.backends.get(belief.subject) == GO:
        return  # etcd's Go client counts its lease from the response, and keeps no margin
    newest = max([belief.start, *(at for at in seen.leases.values() if at <= belief.end)])
    for lease in seen.leases:
        passed = history.keep_alives.get((belief.subject, lease), ())
        before = bisect_right(passed, belief.end)
        newest = max(newest, passed[before - 1] if before else newest)
    deadline = newest + history.longest_trust + _BLINK
    if belief.end > deadline:
        yield Violation(
            "S3",
            f"{belief.run} (token {belief.token}) was leader {belief.end - deadline:.3f} s longer than its newest "
            "keep-alive can justify",
            deadline,
        )


def s4_register(history: History) -> Iterator[Violation]:
    highest: dict[int, int] = defaultdict(int)
    for write in sorted(history.writes, key=lambda write: (write.era, write.revision)):
        if write.token < highest[write.era]:
            yield Violation(
                "S4", f"a write with {write.token} was accepted after one with {highest[write.era]}", write.revision
            )
        highest[write.era] = max(highest[write.era], write.token)
        seen = history.keys.get((write.era, write.token))
        if seen is not None and seen.gone_revision is not None and write.revision > seen.gone_revision:
            yield Violation("S4", f"a write with {write.token} was accepted after its key was gone", write.revision)


def s5_work(history: History) -> Iterator[Violation]:
    by_process = defaultdict(list)
    for work in history.works:
        by_process[work.run].append(work)
    for run, works in by_process.items():
        works.sort(key=lambda work: work.start)
        for earlier, later in pairwise(works):
            if earlier.end is None or earlier.end > later.start:
                yield Violation("S5", f"two works ran at once in {run}", later.start)
        for number, work in enumerate(works):
            may_be_missing = number == len(works) - 1 and run in history.died
            if work.ousted > 1 or (work.ousted == 0 and not may_be_missing):
                yield Violation("S5", f"on_ousted ran {work.ousted} times in {run} for term {work.token}", work.start)
            if work.late and work.late[-1] - work.late[0] > history.margin:
                yield Violation(
                    "S5", f"the work of {run} continued after it could detect the end of its term", work.late[-1]
                )
    for run in history.believing_children:
        yield Violation("S5", f"a forked child of {run} was leader", 0.0)


def s6_once_false(history: History) -> Iterator[Violation]:
    seen = set()
    for belief in sorted(history.beliefs, key=lambda belief: belief.start):
        if (belief.run, belief.era, belief.token) in seen:
            yield Violation("S6", f"{belief.run} was leader again with {belief.token}", belief.start)
        seen.add((belief.run, belief.era, belief.token))


def s7_release(history: History) -> Iterator[Violation]:
    deleted = _deleted(history)
    for work in history.works:
        seen = history.keys.get((work.era, work.token))
        if work.end is None or seen is None or seen.gone_seen is None or work.token in deleted:
            continue
        released = _released_at(history, seen)
        if work.reason in _RELEASED and released < work.end:
            yield Violation(
                "S7",
                f"{work.run} released leadership {work.token} {work.end - released:.3f} s before its work had ended",
                released,
            )


def _released_at(history: History, key: Key) -> float:
    """Return when the key was released: when its lease was revoked, if that is recorded, else when the key was gone."""
    if history.revocations:
        return min((at for lease, at in history.revocations.items() if lease in key.leases), default=math.inf)
    return math.inf if key.gone_seen is None else key.gone_seen


def s8_orphans(history: History) -> Iterator[Violation]:
    for what in history.leftovers:
        yield Violation("S8", f"{what} was left behind", 0.0)


def l7_recovery(history: History) -> Iterator[Violation]:
    for what in history.stuck:
        yield Violation("L7", what, math.inf)


def s9_secrets(history: History) -> Iterator[Violation]:
    for where in history.secrets:
        yield Violation("S9", f"a secret was written to {where}", 0.0)


def s10_woken(history: History) -> Iterator[Violation]:
    # An expired term releases its key itself, and etcd is not the cause if an operator took the key away.
    woken = {token for injection in history.injections for token in injection.woken} - _deleted(history)
    for work in history.works:
        if work.token in woken and work.reason in _TAKEN_AWAY:
            yield Violation(
                "S10",
                f"{work.run} lost its leadership (token {work.token}) to a former leader of etcd that woke up",
                work.end or work.start,
            )


CHECKS: tuple[Callable[[History], Iterator[Violation]], ...] = (
    s1_no_overlap,
    s2_tokens,
    s3_subset,
    s4_register,
    s5_work,
    s6_once_false,
    s7_release,
    s8_orphans,
    s9_secrets,
    s10_woken,
    l7_recovery,
)


def main() -> int:
    """Check histories again; return 1 if an invariant did not hold."""
    status = 0
    for name, history in load(line for path in sys.argv[1:] for line in read_lines(Path(path))).items():
        found = check(history)
        beliefs = sum(len(one.beliefs) for one in (history, *history.parts))
        print(f"{name}: {beliefs} beliefs, worst overlap {worst_overlap(history):.3f} s")
        for violation in found:
            print(f"  {violation.rule} at {violation.at:.3f}: {violation.text}")
        status |= bool(found)
    return status


if __name__ == "__main__":
    sys.exit(main())
