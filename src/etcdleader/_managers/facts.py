"""The numbers of an election that metrics compute at the moment they are read.

A metrics library reads in its own thread. Everything here can be called from any thread, and waits for no lock. A fork can
leave a lock locked forever.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ..manager import LeaderManager
from ..model import HealthState

KINDS: tuple[tuple[type[EtcdLeaderError], str], ...] = (
    (EtcdUnavailableError, "unavailable"),
    (EtcdRefusedError, "refused"),
    (EtcdRegressedError, "regressed"),
    (EtcdLeaderError, "other"),
)
"""The kinds by which metrics count errors. The first that fits is the kind of an error."""


class LeaderView:
    """Records whether a leader is known to one candidate, and for how long none was.

    Attributes:
        known: The last argument of ``Metrics.leader_known``.
    """

    def __init__(self, clock: Callable[[], float], reported: list[float]) -> None:
        """Create a view that has received nothing.

        Args:
            clock: Returns seconds.
            reported: One number that the views of an election share: the highest that was read. Therefore the time never
                decreases, even if a manager is deleted and another one follows.
        """
        self.known: bool | None = None
        self._clock = clock
        self._reported = reported
        # One value, so that each thread reads a consistent pair.
        self._leaderless: tuple[float, float | None] = (reported[0], None)

    def change(self, *, known: bool | None) -> None:
        """Record an event ``leader_known``."""
        self.known = known
        now = self._clock()
        self._leaderless = self._leaderless_at(now), now if known is False else None

    def leaderless(self) -> float:
        """Return the seconds for which the candidate campaigned and no leader was known."""
        # The clock is read first: an interval that ends meanwhile is then not read too long.
        self._reported[0] = max(self._reported[0], self._leaderless_at(self._clock()))
        return self._reported[0]

    def _leaderless_at(self, now: float) -> float:
        total, since = self._leaderless
        return total if since is None else total + max(0.0, now - since)


class Counted(NamedTuple):
    """A manager that metrics count for."""

    manager: LeaderManager
    view: LeaderView


class CountedManagers:
    """The managers that one metrics object counts for. It does not keep them alive."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counted: dict[int, tuple[weakref.ref[LeaderManager], LeaderView]] = {}
        self._reported: dict[str, list[float]] = {}

    def add(self, manager: LeaderManager) -> LeaderView:
        """Count for this manager, too, and return the view that receives its events."""
        counted, key = self._counted, id(manager)
        view = LeaderView(self._clock, self._reported.setdefault(manager.election_key, [0.0]))
        counted[key] = weakref.ref(manager, lambda _: counted.pop(key, None)), view
        return view

    def __contains__(self, manager: LeaderManager) -> bool:
        return id(manager) in self._counted

    def by_election(self) -> dict[str, list[Counted]]:
        """Return the living managers of each election."""
        elections: dict[str, list[Counted]] = {}
        for reference, view in self._counted.copy().values():
            if (manager := reference()) is not None:
                elections.setdefault(manager.election_key, []).append(Counted(manager, view))
        return elections


class Fact(NamedTuple):
    """A number of an election, computed from its managers in this process.

    Attributes:
        meaning: The meaning of the number, as a sentence.
        of_one: Returns the number of one manager; None if it has none now.
        of_all: Combines the numbers of several managers of one election.
    """

    meaning: str
    of_one: Callable[[Counted], float | None]
    of_all: Callable[[list[float]], float]

    def read(self, managers: Sequence[Counted]) -> float | None:
        """Return the number now; None if it is missing."""
        numbers = [number for one in managers if (number := self.of_one(one)) is not None]
        return self.of_all(numbers) if numbers else None


def _configured(name: str) -> Fact:
    read = attrgetter(f"config.{name}")
    return Fact("As configured.", lambda one: read(one.manager), min)


FACTS = {
    "is_leader": Fact("1 while this process leads, by its own clock.", lambda one: int(one.manager.is_leader()), sum),
    "token": Fact(
        "The fencing token of the current term; 0 without one.",
        lambda one: term.token if (term := one.manager.term) else 0,
        max,
    ),
    "lease_remaining": Fact(
        "Seconds until the term is over if no renewal is confirmed; missing without a term.",
        lambda one: term.remaining() if (term := one.manager.term) else None,
        min,
    ),
    "min_remaining": Fact(
        "The fewest seconds left of the leader's lease at a renewal, since the start of the process.",
        lambda one: one.manager.statistics().min_remaining,
        min,
    ),
    "queue_position": Fact(
        "0 for the leader, 1 for the next in line; missing outside the queue.",
        lambda one: one.manager.statistics().queue_position,
        min,
    ),
    "leader_known": Fact(
        "1 while this candidate leads, or is queued behind another one; missing while it does not campaign.",
        lambda one: None if one.view.known is None else int(one.view.known),
        max,
    ),
    "leaderless": Fact(
        "How long this process campaigned without a known leader.", lambda one: one.view.leaderless(), max
    ),
    **{name: _configured(name) for name in ("lease", "retry", "renew", "margin")},
}
"""The numbers that metrics compute for each election, by name."""


def count_states(managers: Sequence[Counted]) -> dict[HealthState, int]:
    """Return how many of these managers are in each state of health."""
    states = [one.manager.health().state for one in managers]
    return {state: states.count(state) for state in HealthState}


def kind_of(error: EtcdLeaderError) -> str:
    """Return the kind by which metrics count this error."""
    return next(kind for of_kind, kind in KINDS if isinstance(error, of_kind))
