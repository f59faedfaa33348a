"""Prometheus metrics (``pip install 'etcdleader[prometheus]'``).

::

    metrics = PrometheusMetrics()
    manager = EtcdLeaderManager(etcd, config, "jobs", metrics=metrics)     # or, for a manager from the factory:
    metrics.attach(manager)

One object serves any number of managers. Gauges are computed at each scrape: the manager then checks by the clock whether
it leads. There is no flag that a blocked event loop would have had to clear. No metric needs the event loop, so a scrape
from a thread (:func:`etcdleader.health.serve`) succeeds while the loop is blocked.

The labels are ``election`` and, for some metrics, ``reason``, ``kind`` or ``state``. The values of these three are fixed.
Identities, keys and messages are never labels. ``docs/monitoring.md`` has the list, alerts and a dashboard.

prometheus_client's multiprocess mode is not supported, because it does not compute gauges at the scrape. Give each process
that campaigns its own port.
"""

# ruff: noqa: ARG002 - events have more arguments than are counted
from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ._runtime.clock import boottime
from .errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .manager import LeaderManager
from .metrics import NullMetrics
from .model import HealthState, LeaderStatus, LossReason, Term

__all__ = ("PrometheusMetrics",)

F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)

_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. A renewal is a keep-alive, a proposal and a read: milliseconds in one place, some hundred between continents."""
_SECONDS_LEFT = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
_DRAINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_KINDS: tuple[tuple[type[EtcdLeaderError], str], ...] = (
    (EtcdUnavailableError, "unavailable"),
    (EtcdRefusedError, "refused"),
    (EtcdRegressedError, "regressed"),
    (EtcdLeaderError, "other"),
)

_DURATIONS = ("lease", "retry", "renew", "margin")
_GAUGES: tuple[tuple[str, str, Callable[[LeaderManager], Any], Callable[[list[Any]], float]], ...] = (
    ("is_leader", "1 while this process leads, by its own clock.", lambda each: each.is_leader(), sum),
    (
        "token",
        "The fencing token of the current term; 0 without one.",
        lambda each: getattr(each.term, "token", 0),
        max,
    ),
    (
        "lease_remaining_seconds",
        "Seconds until the term is over if no renewal is confirmed; missing without a term.",
        lambda each: (term := each.term) and term.remaining(),
        min,
    ),
    (
        "min_remaining_seconds",
        "The fewest seconds left of the leader's lease at a renewal, since the start of the process.",
        lambda each: each.statistics().min_remaining,
        min,
    ),
    (
        "queue_position",
        "0 for the leader, 1 for the next in line; missing outside the queue.",
        lambda each: each.statistics().queue_position,
        min,
    ),
    *((f"{name}_seconds", "As configured.", attrgetter(f"config.{name}"), min) for name in _DURATIONS),
)
"""Name, documentation, the value of one manager or None, and how the values of an election's managers are combined."""


class PrometheusMetrics(NullMetrics):
    """Metrics for Prometheus. Give it to managers as ``metrics``, or ``attach`` them.

    It does not keep managers alive. After a manager is deleted, its counters remain, and its gauges disappear. Several
    managers of one election in one process share their metrics: ``etcdleader_is_leader`` is the number of them that lead.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        namespace: str = "etcdleader",
        renewal_buckets: Sequence[float] = _CALLS,
        remaining_buckets: Sequence[float] = _SECONDS_LEFT,
        drain_buckets: Sequence[float] = _DRAINS,
        clock: Callable[[], float] = boottime,
    ) -> None:
        """Register all metrics.

        Args:
            registry: The registry to scrape.
            namespace: The prefix of all names. The dashboard and the alerts expect the default.
            renewal_buckets: The buckets of ``renewal_duration_seconds``.
            remaining_buckets: The buckets of ``renewal_remaining_seconds``. They should reach the lease.
            drain_buckets: The buckets of ``drain_seconds``.
            clock: Returns seconds, to measure the time without a leader.

        Raises:
            ValueError: The registry has these metrics already. One object is enough for all managers.
        """
        self.registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._bound: list[_Counted] = []

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, ("election", *labels), namespace=namespace, registry=registry)

        def histogram(name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(
                name, documentation, ("election",), namespace=namespace, registry=registry, buckets=tuple(buckets)
            )

        self.terms = counter("terms", "Elections won.")
        self.losses = counter("losses", "Terms that ended, by reason.", "reason")
        self.overruns = counter("overruns", "Terms whose work ignored its cancellation past the end of the lease.")
        self.errors = counter("etcd_errors", "Failed calls and broken streams, by kind.", "kind")
        self.renewal_failures = counter("renewal_failures", "Renewals that were not confirmed.")
        self.lease_moves = counter(
            "lease_moves", "Moves of a candidate key to a new lease, because etcd had elected another leader."
        )
        self.renewals = histogram(
            "renewal_duration_seconds", "From the sending of a renewal to its confirmation.", renewal_buckets
        )
        self.remaining = histogram(
            "renewal_remaining_seconds", "Seconds left of the leader's lease at a renewal.", remaining_buckets
        )
        self.drains = histogram("drain_seconds", "From the cancellation of a term's work to its end.", drain_buckets)
        registry.register(_AtScrape(namespace, self._living))

    def attach(self, manager: LeaderManager) -> None:
        """Count for a manager that was created without ``metrics``, such as one from the factory.

        Attach it before it campaigns: earlier events are not counted. A second call has no effect.

        Raises:
            TypeError: ``manager`` is not one of etcdleader's managers.
        """
        if not isinstance(manager, LeaderManager):
            raise TypeError(f"manager must be one of etcdleader's, not {type(manager).__name__}")
        if not any(living is manager for _, living in self._living()):
            manager.add_metrics(self)

    def bind(self, manager: LeaderManager) -> _Counted:
        """Return the object that counts for this manager."""
        counted = _Counted(self, manager, self._clock)
        with self._lock:
            self._bound = [*(living for living, _ in self._living()), counted]
        return counted

    def _living(self) -> list[tuple[_Counted, LeaderManager]]:
        return [(counted, manager) for counted in self._bound if (manager := counted.manager()) is not None]


class _Counted(NullMetrics):
    """The counts of one manager, which it shares with others of the same election."""

    def __init__(self, metrics: PrometheusMetrics, manager: LeaderManager, clock: Callable[[], float]) -> None:
        self.election = election = manager.election_key
        self.manager = weakref.ref(manager)
        self.leader_is_known: bool | None = None
        self._clock = clock
        # One value, so that each thread reads a consistent pair.
        self._leaderless: tuple[float, float | None] = (0.0, None)
        self._told = 0.0
        # All label values are created now: a rate needs a zero to start from.
        self._terms = metrics.terms.labels(election)
        self._losses = {reason: metrics.losses.labels(election, reason.value) for reason in LossReason}
        self._overruns = metrics.overruns.labels(election)
        self._errors = {kind: metrics.errors.labels(election, name) for kind, name in _KINDS}
        self._renewal_failures = metrics.renewal_failures.labels(election)
        self._lease_moves = metrics.lease_moves.labels(election)
        self._renewals = metrics.renewals.labels(election)
        self._remaining = metrics.remaining.labels(election)
        self._drains = metrics.drains.labels(election)

    def leaderless(self) -> float:
        """Return the seconds for which it campaigned and no leader was known. Can be called from any thread."""
        # There is no lock, because a fork could leave it locked forever. So an interval may once be read a little too long.
        self._told = max(self._told, self._leaderless_now())
        return self._told

    def _leaderless_now(self) -> float:
        total, since = self._leaderless
        return total if since is None else total + max(0.0, self._clock() - since)

    def elected(self, term: Term) -> None:
        self._terms.inc()

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        self._losses[reason].inc()
        self._drains.observe(drain)

    def renewed(self, duration: float, remaining: float) -> None:
        self._renewals.observe(duration)
        manager = self.manager()
        if manager is not None and manager.status is LeaderStatus.ELECTED:
            self._remaining.observe(remaining)

    def renewal_failed(self, remaining: float) -> None:
        self._renewal_failures.inc()

    def lease_moved(self, lease_id: int) -> None:
        self._lease_moves.inc()

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        self._errors[next(kind for kind, _ in _KINDS if isinstance(error, kind))].inc()

    def overrun(self, term: Term) -> None:
        self._overruns.inc()

    def leader_known(self, known: bool | None) -> None:  # noqa: FBT001 - as in the protocol
        self.leader_is_known = known
        self._leaderless = self._leaderless_now(), self._clock() if known is False else None


class _AtScrape(Collector):
    """The metrics that are computed at the scrape."""

    def __init__(self, namespace: str, living: Callable[[], list[tuple[_Counted, LeaderManager]]]) -> None:
        self._namespace = namespace
        self._living = living

    def describe(self) -> Iterable[Metric]:
        """Return the names, so that the registry refuses a second such object."""
        return self._families({})

    def collect(self) -> Iterable[Metric]:
        elections: dict[str, list[tuple[_Counted, LeaderManager]]] = {}
        for counted, manager in self._living():
            elections.setdefault(counted.election, []).append((counted, manager))
        return self._families(elections)

    def _families(self, elections: dict[str, list[tuple[_Counted, LeaderManager]]]) -> Iterator[Metric]:
        for name, documentation, value, combine in _GAUGES:
            gauge = self._new(GaugeMetricFamily, name, documentation)
            for election, pairs in elections.items():
                numbers = [number for _, manager in pairs if (number := value(manager)) is not None]
                if numbers:
                    gauge.add_metric((election,), combine(numbers))
            yield gauge
        health = self._new(GaugeMetricFamily, "health", "How many managers of this process are in each state.", "state")
        known = self._new(
            GaugeMetricFamily,
            "leader_known",
            "1 while this candidate leads, or is queued behind another one; missing while it does not campaign.",
        )
        leaderless = self._new(
            CounterMetricFamily, "leaderless_seconds", "How long this process campaigned without a known leader."
        )
        for election, pairs in elections.items():
            states = [manager.health().state for _, manager in pairs]
            for state in HealthState:
                health.add_metric((election, state.value), states.count(state))
            views = [counted.leader_is_known for counted, _ in pairs if counted.leader_is_known is not None]
            if views:
                known.add_metric((election,), any(views))
            leaderless.add_metric((election,), max(counted.leaderless() for counted, _ in pairs))
        yield from (health, known, leaderless)

    def _new(self, kind: type[F], name: str, documentation: str, *labels: str) -> F:
        return kind(f"{self._namespace}_{name}", documentation, labels=("election", *labels))
