"""An independent checker of an election's invariants. It reads etcd's state, and uses none of the managers' own rules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from etcdleader import EtcdLeaderManager, LeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing._store import Commit
from etcdleader.testing.fake_etcd import Call
from tests.sim.world import ELECTION, Oldest, oldest_keys

__all__ = ("InvariantChecker",)

_ROUNDING = 1e-6


@dataclass
class InvariantChecker:
    """Checks which terms may be valid, at each request, each commit, each win and every virtual second.

    A term can become wrongly valid only then. Only commits change etcd's state, and only a win or a renewal makes a term
    valid. The passage of time only ends validity.

    - At most one manager leads.
    - The leader has the election's oldest key, on its own lease. The key may also be on the lease to which a transaction moves
      it, if that transaction was applied and its response has not arrived.
    - In etcd, that lease lasts at least as long as the leader considers it valid.
    - If a key was changed *by hand*, the only guarantee is the deadline of the last renewal that still found it. Until then its
      owner may lead, and the rules above do not count it. Without changes by hand, no leader is excused.
    - Tokens rise, in the order of winning, and each is the create_revision of the term's key.
    - An ended term is not valid again.
    - The work of one manager's terms never overlaps. `on_ousted` is called once for each term, after the work.

    Attributes:
        managers: All candidates of one election.
        excuse: Seconds after a change by hand during which the key's owner may still lead.
        verdicts: The violations; empty unless an invariant was broken.
        tokens: The tokens of all terms, in the order in which they were won.
        checks: The number of checks.
        excused: The number of times at which a check found an excused leader.
        election: The managers' election.
        at_requests: Check at each request of any client. This is too often with hundreds of elections.
    """

    etcd: FakeEtcd
    managers: Sequence[EtcdLeaderManager]
    excuse: float
    verdicts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    checks: int = 0
    excused: int = 0
    election: str = ELECTION
    at_requests: bool = True
    _by_hand: dict[int, float] = field(default_factory=dict)
    _terms: dict[Term, bool] = field(default_factory=dict)
    _at_work: dict[LeaderManager, Term] = field(default_factory=dict)
    _ousted: set[Term] = field(default_factory=set)
    _ends: Counter[LeaderManager] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for manager in self.managers:
            manager.on_elected(self._elected)
            manager.on_ousted(self._was_ousted)
        if self.at_requests:
            self.etcd.hooks.append(self._at_a_request)
        self.etcd.commit_hooks.append(self._at_a_commit)

    def record_change_by_hand(self, token: int) -> None:
        """Record that this token's key is about to be deleted, changed or taken off its lease by hand."""
        self._by_hand.setdefault(token, anyio.current_time())

    async def keep_checking(self) -> None:
        """Check every second, until cancelled."""
        while True:
            self.check()
            await anyio.sleep(1)

    def _at_a_request(self, call: Call) -> None:
        self.check()

    def _at_a_commit(self, commit: Commit) -> None:
        if any(event.kv.key.rpartition(b"/")[0] == self.election.encode() for event in commit.events):
            self.check()

    def check(self, oldest: Mapping[str, Oldest] | None = None) -> None:
        """Check all managers now, against the oldest key of each election. Read these keys unless they are given."""
        self.checks += 1
        believers = {term: manager for manager in self.managers if (term := manager.term) is not None}
        for term, was_valid in self._terms.items():
            if term.is_valid() and not was_valid:
                self._wrong(f"{term} is valid again")
        # Only the last ended terms are kept: there are thousands, and each check goes through all that are kept.
        self._terms = {term: term.is_valid() for term in list(self._terms)[-6:]}
        strict = [term for term in believers if not self._is_excused(term)]
        self.excused += len(believers) - len(strict)
        if len(strict) > 1:
            self._wrong(f"two leaders: {strict}")
        if not strict:
            return
        first = (oldest_keys(self.etcd, self.election) if oldest is None else oldest).get(self.election)
        for term in strict:
            if first is None or first[:2] != (term.key, term.token) or first[2] not in _leases(believers[term], term):
                self._wrong(f"{term} leads, but the oldest key is {first}")
            elif (left := self.etcd.leases().get(first[2], -math.inf)) < (trusted := term.remaining()) - _ROUNDING:
                self._wrong(f"{term} is trusted for {trusted} s, and etcd keeps its lease {first[2]:x} for {left} s")

    def _is_excused(self, term: Term) -> bool:
        done = self._by_hand.get(term.token)
        return done is not None and anyio.current_time() <= done + self.excuse

    async def _elected(self, manager: LeaderManager, term: Term) -> None:
        if self.tokens and term.token <= self.tokens[-1]:
            self._wrong(f"the token {term.token} was won after {self.tokens[-1]}")
        self.tokens.append(term.token)
        self._terms[term] = term.is_valid()
        if term.key not in self._puts_of(term.token):
            self._wrong(f"the token of {term} is no create_revision of its key: {self._puts_of(term.token)}")
        self.check()
        if manager in self._at_work:
            self._wrong(f"{term} works beside {self._at_work[manager]}")
        self._at_work[manager] = term
        try:
            await anyio.sleep_forever()
        finally:
            del self._at_work[manager]

    def _was_ousted(self, manager: LeaderManager, term: Term) -> None:
        if manager in self._at_work or term in self._ousted:
            self._wrong(f"{term} was ousted twice, or while it worked")
        self._ousted.add(term)
        self._ends[manager] += 1

    def _puts_of(self, revision: int) -> Mapping[str, int]:
        """Return the keys that were created in a revision, and their leases."""
        commit = self.etcd._cluster.store.since(revision)[0]
        return {
            event.kv.key.decode(): event.kv.lease
            for event in commit.events
            if event.type == "put" and event.kv.create_revision == revision
        }

    def check_counts(self) -> None:
        """Compare each manager's statistics with the terms that began and ended. All managers must have left."""
        for manager in self.managers:
            counted = manager.statistics()
            lost = sum(counted.losses.values())
            if not counted.terms == lost == self._ends[manager]:
                self._wrong(f"{manager} counted {counted.terms} terms and {lost} losses, and had {self._ends[manager]}")
        if len(self.tokens) != len(self._ousted):
            self._wrong(f"{len(self.tokens)} terms began, and {len(self._ousted)} ended")

    def _wrong(self, what: str) -> None:
        self.verdicts.append(f"at {anyio.current_time():.3f} s: {what}")


def _leases(manager: EtcdLeaderManager, term: Term) -> set[int]:
    """Return the leases on which the key of a term may be now."""
    session = None if manager._elector is None else manager._elector.session
    return {term.lease_id} if session is None else {term.lease_id, session.own.moving_to}
