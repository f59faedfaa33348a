"""Somebody who looks on from outside, sees the truth in etcd, and knows nothing of how managers come to believe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from etcdleader import EtcdLeaderManager, LeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing._store import Revision
from etcdleader.testing.fake_etcd import Call
from tests.sim.world import ELECTION, Oldest, oldest_keys

__all__ = ("Judge",)

_ROUNDING = 1e-6


@dataclass
class Judge:
    """Judges who may believe what, at each request, each commit, each election and every virtual second.

    That is whenever it may begin to be wrong: etcd's truth changes by commits alone, and who believes begins by winning or goes
    on by a renewal. Time by itself only ends what is believed.

    - At most one manager leads.
    - Who leads has the oldest key of the election, on its own lease, or on the one to which a transaction moves it that was
      applied and not answered. That lease lasts, for etcd, at least as long as the leader trusts it. For a key that was taken away *by hand* nothing
      better can be promised than the deadline of the last renewal that still saw it: until then its owner may go on
      believing, and does not count for the rule above. So long as nothing was done by hand, nobody is excused.
    - Tokens rise, in the order of winning, and each is the create_revision of the term's key.
    - What was over is not valid again.
    - The work of one manager's terms never overlaps, and `on_ousted` comes once for each, after the work.

    Attributes:
        managers: All that stand in one election.
        excuse: Seconds after a deed by hand for which its victim may still believe.
        verdicts: What was found wrong; empty at the end, or else.
        tokens: Of all terms, in the order in which they were won.
        looks: How often it has looked.
        excused: How often it found a victim of a deed by hand who still believed.
        election: Theirs.
        at_requests: Look at each request, whosever it is: too often where there are hundreds of elections.
    """

    etcd: FakeEtcd
    managers: Sequence[EtcdLeaderManager]
    excuse: float
    verdicts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    looks: int = 0
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

    def deed(self, token: int) -> None:
        """The key of this token is about to be deleted, changed or taken off its lease by hand."""
        self._by_hand.setdefault(token, anyio.current_time())

    async def look_on(self) -> None:
        """Look every second, until cancelled."""
        while True:
            self.look()
            await anyio.sleep(1)

    def _at_a_request(self, call: Call) -> None:
        self.look()

    def _at_a_commit(self, commit: Revision) -> None:
        if any(event.kv.key.rpartition(b"/")[0] == self.election.encode() for event in commit.events):
            self.look()

    def look(self, oldest: Mapping[str, Oldest] | None = None) -> None:
        """Look at everybody, now; at the oldest key of each election, too, unless it is given."""
        self.looks += 1
        believers = {term: manager for manager in self.managers if (term := manager.term) is not None}
        for term, was_valid in self._terms.items():
            if term.is_valid() and not was_valid:
                self._wrong(f"{term} is valid again")
        # Those that are over are kept for a while only: there are thousands, and each look asks each.
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
        self.look()
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
        """The keys that were made in a revision, and their leases."""
        commit = self.etcd._cluster.store.since(revision)[0]
        return {
            event.kv.key.decode(): event.kv.lease
            for event in commit.events
            if event.type == "put" and event.kv.create_revision == revision
        }

    def check_counts(self) -> None:
        """Hold against each manager's own figures that each term was begun once, and each loss counted once. Everybody
        must have left."""
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
    """Those on which the key of a term may be now."""
    session = None if manager._elector is None else manager._elector.session
    return {term.lease_id} if session is None else {term.lease_id, session.own.moving_to}
