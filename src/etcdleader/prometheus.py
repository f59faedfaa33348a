"""Prometheus metrics (``pip install 'etcdleader[prometheus]'``).

::

    metrics = PrometheusMetrics()
    manager = EtcdLeaderManager(etcd, config, "jobs", metrics=metrics)
    mail = must_new_leader_manager_from_config("mail", metrics=metrics)

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

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ._managers.facts import FACTS, KINDS, Counted, CountedManagers, Fact, LeaderView, count_states, kind_of
from ._runtime.clock import boottime
from .errors import EtcdLeaderError
from .manager import LeaderManager
from .metrics import NullMetrics
from .model import LeaderStatus, LossReason, Term

__all__ = ("PrometheusMetrics",)

F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)

_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. A renewal is a keep-alive, a proposal and a read: milliseconds in one place, some hundred between continents."""
_SECONDS_LEFT = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
_DRAINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_GAUGES = {
    "is_leader": "is_leader",
    "token": "token",
    "lease_remaining_seconds": "lease_remaining",
    "min_remaining_seconds": "min_remaining",
    "queue_position": "queue_position",
    "leader_known": "leader_known",
    **{f"{name}_seconds": name for name in ("lease", "retry", "renew", "margin")},
}
"""The facts of the gauges."""


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
        self._managers = CountedManagers(clock)

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
        registry.register(_AtScrape(namespace, self._managers))

    def attach(self, manager: LeaderManager) -> None:
        """Count for a manager that was created without ``metrics``, such as one from the factory.

        Attach it before it campaigns: earlier events are not counted. A second call has no effect.

        Raises:
            TypeError: ``manager`` is not one of etcdleader's managers.
        """
        if not isinstance(manager, LeaderManager):
            raise TypeError(f"manager must be one of etcdleader's, not {type(manager).__name__}")
        manager.add_metrics(self)

    def bind(self, manager: LeaderManager) -> _Counted:
        """Return the object that counts for this manager."""
        return _Counted(self, manager, self._managers.add(manager))


class _Counted(NullMetrics):
    """The counts of one manager, which it shares with others of the same election."""

    def __init__(self, metrics: PrometheusMetrics, manager: LeaderManager, view: LeaderView) -> None:
        self._manager = weakref.ref(manager)
        self._view = view
        election = manager.election_key
        # All label values are created now: a rate needs a zero to start from.
        self._terms = metrics.terms.labels(election)
        self._losses = {reason: metrics.losses.labels(election, reason.value) for reason in LossReason}
        self._overruns = metrics.overruns.labels(election)
        self._errors = {kind: metrics.errors.labels(election, kind) for _, kind in KINDS}
        self._renewal_failures = metrics.renewal_failures.labels(election)
        self._lease_moves = metrics.lease_moves.labels(election)
        self._renewals = metrics.renewals.labels(election)
        self._remaining = metrics.remaining.labels(election)
        self._drains = metrics.drains.labels(election)

    def elected(self, term: Term) -> None:
        self._terms.inc()

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        self._losses[reason].inc()
        self._drains.observe(drain)

    def renewed(self, duration: float, remaining: float) -> None:
        self._renewals.observe(duration)
        manager = self._manager()
        if manager is not None and manager.status is LeaderStatus.ELECTED:
            self._remaining.observe(remaining)

    def renewal_failed(self, remaining: float) -> None:
        self._renewal_failures.inc()

    def lease_moved(self, lease_id: int) -> None:
        self._lease_moves.inc()

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        self._errors[kind_of(error)].inc()

    def overrun(self, term: Term) -> None:
        self._overruns.inc()

    def leader_known(self, known: bool | None) -> None:  # noqa: FBT001 - as in the protocol
        self._view.change(known=known)


class _AtScrape(Collector):
    """The metrics that are computed at the scrape."""

    def __init__(self, namespace: str, managers: CountedManagers) -> None:
        self._namespace = namespace
        self._managers = managers

    def describe(self) -> Iterable[Metric]:
        """Return the names, so that the registry refuses a second such object."""
        return self._families({})

    def collect(self) -> Iterable[Metric]:
        return self._families(self._managers.by_election())

    def _families(self, elections: dict[str, list[Counted]]) -> Iterator[Metric]:
        for name, fact in _GAUGES.items():
            yield self._family(GaugeMetricFamily, name, FACTS[fact], elections)
        yield self._family(CounterMetricFamily, "leaderless_seconds", FACTS["leaderless"], elections)
        health = GaugeMetricFamily(
            f"{self._namespace}_health",
            "How many managers of this process are in each state.",
            labels=("election", "state"),
        )
        for election, managers in elections.items():
            for state, count in count_states(managers).items():
                health.add_metric((election, state.value), count)
        yield health

    def _family(self, kind: type[F], name: str, fact: Fact, elections: dict[str, list[Counted]]) -> F:
        family = kind(f"{self._namespace}_{name}", fact.meaning, labels=("election",))
        for election, managers in elections.items():
            if (number := fact.read(managers)) is not None:
                family.add_metric((election,), number)
        return family
