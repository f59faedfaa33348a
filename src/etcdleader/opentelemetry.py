"""OpenTelemetry metrics (``pip install 'etcdleader[opentelemetry]'``).

::

    metrics = OpenTelemetryMetrics()       # on the global meter provider, or on the one that is given
    manager = must_new_leader_manager_from_config("jobs", metrics=metrics)

One object serves any number of managers. It reports the same facts as :mod:`etcdleader.prometheus`. The names follow
OpenTelemetry's conventions: a namespace, no units and no ``_total`` in names, units in UCUM.

Each collection computes gauges from the managers: a manager then checks by the clock whether it leads. Collection runs in a
thread of the SDK. It needs no event loop, so it succeeds while the loop is blocked. No exception reaches the SDK or the loop.

The attributes are ``etcdleader.election`` and, for some metrics, ``etcdleader.loss.reason``, ``etcdleader.health.state`` or
``error.type``. The values of these three are fixed. Identities, keys and messages are never attributes.
``docs/monitoring.md`` has the list.
"""

# ruff: noqa: ARG002 - events have more arguments than are counted
from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from ._managers.facts import FACTS, KINDS, Counted, CountedManagers, LeaderView, count_states, kind_of
from ._runtime.clock import boottime
from .errors import EtcdLeaderError
from .manager import LeaderManager
from .metrics import NullMetrics
from .model import LeaderStatus, LossReason, Term

__all__ = ("OpenTelemetryMetrics",)

_logger = logging.getLogger("etcdleader")

_ELECTION = "etcdleader.election"
_REASON = "etcdleader.loss.reason"
_STATE = "etcdleader.health.state"
_ERROR = "error.type"
_ERROR_TYPES = {kind: kind for _, kind in KINDS} | {"other": "_OTHER"}
"""By the kinds of errors. ``_OTHER`` is the value that the conventions prescribe for errors without a type."""

_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SECONDS_LEFT = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
_DRAINS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_OBSERVED = (
    ("etcdleader.leader.count", "up_down_counter", "{leader}", "is_leader"),
    ("etcdleader.leader.known", "gauge", "1", "leader_known"),
    ("etcdleader.leaderless.time", "counter", "s", "leaderless"),
    ("etcdleader.term.token", "gauge", "{revision}", "token"),
    ("etcdleader.lease.remaining_time", "gauge", "s", "lease_remaining"),
    ("etcdleader.lease.min_remaining_time", "gauge", "s", "min_remaining"),
    ("etcdleader.queue.position", "gauge", "{candidate}", "queue_position"),
    ("etcdleader.config.lease", "gauge", "s", "lease"),
    ("etcdleader.config.retry", "gauge", "s", "retry"),
    ("etcdleader.config.renew", "gauge", "s", "renew"),
    ("etcdleader.config.margin", "gauge", "s", "margin"),
)
"""The metrics that are computed at each collection: name, instrument, unit and fact."""


class OpenTelemetryMetrics(NullMetrics):
    """Metrics for OpenTelemetry. Give it to managers as ``metrics``, or to ``manager.add_metrics()``.

    It does not keep managers alive. After a manager is deleted, its counters remain, and its gauges disappear. Several
    managers of one election in one process share their metrics: ``etcdleader.leader.count`` is the number of them that lead.

    All objects on one meter provider share their instruments, because a provider accepts each callback once.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, clock: Callable[[], float] = boottime) -> None:
        """Create the instruments, or find those of the provider.

        Args:
            meter_provider: By default the global one, even if the application sets it later.
            clock: Returns seconds, to measure the time without a leader. The first object on a provider decides.
        """
        self._instruments = _instruments_of(meter_provider or get_meter_provider(), clock)

    def bind(self, manager: LeaderManager) -> NullMetrics:
        """Return the object that counts for this manager, unless another object on this provider counts for it already."""
        return NullMetrics() if manager in self._instruments.managers else _Recorder(self._instruments, manager)


class _Instruments:
    """The instruments on one meter provider, and the managers that they observe."""

    def __init__(self, provider: MeterProvider, clock: Callable[[], float]) -> None:
        self.managers = CountedManagers(clock)
        self._complained = False
        meter = provider.get_meter("etcdleader", _version())
        counter, histogram = meter.create_counter, meter.create_histogram
        self.terms = counter("etcdleader.terms", "{term}", "Elections won.")
        self.losses = counter("etcdleader.term.losses", "{term}", "Terms that ended, by reason.")
        self.overruns = counter(
            "etcdleader.term.overruns",
            "{term}",
            "Terms whose work ignored its cancellation past the end of the lease.",
        )
        self.errors = counter("etcdleader.etcd.errors", "{error}", "Failed calls and broken streams, by kind.")
        self.renewal_failures = counter("etcdleader.renewal.failures", "{renewal}", "Renewals that were not confirmed.")
        self.lease_moves = counter(
            "etcdleader.lease.moves",
            "{move}",
            "Moves of a candidate key to a new lease, because etcd had elected another leader.",
        )
        self.renewals = histogram(
            "etcdleader.renewal.duration",
            "s",
            "From the sending of a renewal to its confirmation.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        self.remaining = histogram(
            "etcdleader.renewal.remaining_time",
            "s",
            "Seconds left of the leader's lease at a renewal.",
            explicit_bucket_boundaries_advisory=_SECONDS_LEFT,
        )
        self.drains = histogram(
            "etcdleader.drain.duration",
            "s",
            "From the cancellation of a term's work to its end.",
            explicit_bucket_boundaries_advisory=_DRAINS,
        )
        create = {
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
            "up_down_counter": meter.create_observable_up_down_counter,
        }
        for name, instrument, unit, fact in _OBSERVED:
            observe = partial(self._observe, name, partial(_observe_fact, fact))
            create[instrument](name, [observe], unit, FACTS[fact].meaning)
        meter.create_observable_up_down_counter(
            "etcdleader.health.status",
            [partial(self._observe, "etcdleader.health.status", _observe_health)],
            "{manager}",
            "How many managers of this process are in each state.",
        )

    def _observe(
        self, name: str, observe: Callable[[str, list[Counted]], Iterable[Observation]], _: CallbackOptions
    ) -> list[Observation]:
        """Return the numbers of all elections. If reading one fails, the first exception is logged, and it is left out."""
        observations: list[Observation] = []
        for election, managers in self.managers.by_election().items():
            try:
                observations += observe(election, managers)
            except Exception as error:
                if not self._complained:
                    self._complained = True
                    _logger.exception(
                        "reading %s of %r raised %s. The election continues; further exceptions are not logged",
                        *(name, election, type(error).__name__),
                    )
        return observations


def _observe_fact(fact: str, election: str, managers: list[Counted]) -> Iterable[Observation]:
    number = FACTS[fact].read(managers)
    # With election off, the time left is infinite. The SDK would drop that with a warning.
    if number is not None and math.isfinite(number):
        yield Observation(number, {_ELECTION: election})


def _observe_health(election: str, managers: list[Counted]) -> Iterable[Observation]:
    for state, count in count_states(managers).items():
        yield Observation(count, {_ELECTION: election, _STATE: state.value})


class _Recorder(NullMetrics):
    """Records the events of one manager. It shares the counters with others of the same election."""

    def __init__(self, instruments: _Instruments, manager: LeaderManager) -> None:
        self._to = instruments
        self._manager = weakref.ref(manager)
        self._view: LeaderView = instruments.managers.add(manager)
        election = manager.election_key
        self._election = {_ELECTION: election}
        self._losses = {reason: {_ELECTION: election, _REASON: reason.value} for reason in LossReason}
        self._errors = {kind: {_ELECTION: election, _ERROR: value} for kind, value in _ERROR_TYPES.items()}
        # All counters begin now: a rate needs a zero to start from.
        for counter in (
            instruments.terms,
            instruments.overruns,
            instruments.renewal_failures,
            instruments.lease_moves,
        ):
            counter.add(0, self._election)
        for attributes in self._losses.values():
            instruments.losses.add(0, attributes)
        for attributes in self._errors.values():
            instruments.errors.add(0, attributes)

    def elected(self, term: Term) -> None:
        self._to.terms.add(1, self._election)

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        self._to.losses.add(1, self._losses[reason])
        self._to.drains.record(drain, self._election)

    def renewed(self, duration: float, remaining: float) -> None:
        self._to.renewals.record(duration, self._election)
        manager = self._manager()
        if manager is not None and manager.status is LeaderStatus.ELECTED:
            self._to.remaining.record(remaining, self._election)

    def renewal_failed(self, remaining: float) -> None:
        self._to.renewal_failures.add(1, self._election)

    def lease_moved(self, lease_id: int) -> None:
        self._to.lease_moves.add(1, self._election)

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        self._to.errors.add(1, self._errors[kind_of(error)])

    def overrun(self, term: Term) -> None:
        self._to.overruns.add(1, self._election)

    def leader_known(self, known: bool | None) -> None:  # noqa: FBT001 - as in the protocol
        self._view.change(known=known)


class _Global:
    """Stands for the global meter provider, which is another object before the application sets it."""


_GLOBAL = _Global()
_creation = threading.Lock()
_created: weakref.WeakKeyDictionary[object, weakref.ref[_Instruments]] = weakref.WeakKeyDictionary()
"""By meter provider. The provider keeps the instruments alive: it holds their callbacks."""


def _instruments_of(provider: MeterProvider, clock: Callable[[], float]) -> _Instruments:
    keys: list[object] = [provider, _GLOBAL] if provider is get_meter_provider() else [provider]
    with _creation:
        found = (reference() for key in keys if (reference := _created.get(key)) is not None)
        instruments = next(filter(None, found), None) or _Instruments(provider, clock)
        for key in keys:
            _created[key] = weakref.ref(instruments)
    return instruments


def _version() -> str | None:
    try:
        return version("etcdleader")
    except PackageNotFoundError:  # copied into another program
        return None
