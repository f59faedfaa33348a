"""The only writer of a manager's status: it sets it, wakes who waits, counts and logs; then callbacks may run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .._etcd.versions import known_defects
from ..config import MIN_RECOMMENDED_LEASE, Config
from ..errors import EtcdLeaderError
from ..metrics import GuardedMetrics, Metrics
from ..model import ElectionStatistics, Health, LeaderStatus, LossReason, Term
from .liveness import Liveness
from .outages import Input, News, Outages
from .overrun import OverrunError
from .waiters import Waiters

if TYPE_CHECKING:
    from .term_scope import TermScope

_logger = logging.getLogger("etcdleader")


class _Counts(ElectionStatistics):
    """The statistics while they are counted: the same fields, but mutable."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__  # only both together make an assignment as cheap as usual


def _ignore(*_: object) -> None:
    """Do nothing: no campaign runs."""


def _facts(term: Term, **more: object) -> dict[str, object]:
    """Return what a record of the log says of a term, for machines."""
    return {"election": term.election, "identity": term.identity, "token": term.token, **more}


@dataclass(slots=True, eq=False, repr=False)
class Reporter(Waiters):
    """One manager's news. Implements the ``Listener`` of its candidacies.

    Attributes:
        status: The manager's status.
        on_trouble: Called with an error once per kind per outage: the manager runs its ``on_error`` callbacks.
        on_resign_request: Called when an operator asks the leader to step down.
    """

    _name: str
    _config: Config
    _metrics: GuardedMetrics
    clock: InitVar[Callable[[], float]]
    status: LeaderStatus = LeaderStatus.INIT
    on_trouble: Callable[[EtcdLeaderError], None] = _ignore
    on_resign_request: Callable[[], None] = _ignore
    _counts: Any = field(default_factory=_Counts)  # to type checkers the fields of ElectionStatistics are read-only
    _outages: Outages = field(default_factory=Outages)
    _liveness: Liveness = field(init=False)
    _warned_of_token: bool = False
    _blocked_by: bytes | None = None
    _warned_of_key: bytes | None = None
    _leader_known: bool | None = None

    def __post_init__(self, clock: Callable[[], float]) -> None:
        self._liveness = Liveness(self._config, clock)
        self._metrics.emit(Metrics.leader_known, None)  # whatever a parent saw, before it forked

    @property
    def outage(self) -> frozenset[type[EtcdLeaderError]]:
        """The kinds of errors since etcd last answered; empty while it answers."""
        return self._outages.kinds

    # Campaigns

    def campaign_begins(self) -> None:
        """Somebody campaigns from now on."""
        self._liveness.campaign_begins()
        self._set_leader(known=False)
        self.changed()

    def campaign_ends(self) -> None:
        """No campaign runs any more, so there are no callbacks for errors either."""
        self.on_trouble = _ignore
        self._liveness.campaign_ends()
        self._set_leader(known=None)

    # Terms

    def elected(self, term: Term) -> None:
        """A term begins. Status first, so that callbacks and waiters find it.

        Raises:
            RuntimeError: The term before has not ended: the caller is broken.
        """
        self._change_status(LeaderStatus.ELECTED)
        self._counts.terms += 1
        self._liveness.heard(renewal=True)
        self._metrics.emit(Metrics.elected, term)
        self._set_leader(known=True)
        _logger.info("%s leads %r with token %d", term.identity, term.election, term.token, extra=_facts(term))
        self.changed()

    def ending(self, term: Term) -> None:
        """A term is over; its work is being cancelled."""
        reason = term.loss_reason or LossReason.EXPIRED
        self._liveness.term_ends()
        self._set_leader(known=False)
        _logger.info(
            "%s leads %r no longer (token %d): %s",
            *(term.identity, term.election, term.token, reason.name),
            extra=_facts(term, reason=reason.value),
        )
        self.changed()

    def ousted(self, term: Term, drain: float) -> None:
        """The work of a term has ended, ``drain`` seconds after it was cancelled.

        Raises:
            RuntimeError: There was no term: the caller is broken.
        """
        self._change_status(LeaderStatus.OUSTED)
        reason = term.loss_reason or LossReason.EXPIRED
        self._counts.losses[reason] = self._counts.losses.get(reason, 0) + 1
        self._liveness.heard()
        self._metrics.emit(Metrics.ousted, term, reason, drain)
        self.changed()

    def _change_status(self, status: LeaderStatus) -> None:
        if (self.status is LeaderStatus.ELECTED) != (status is LeaderStatus.OUSTED):
            raise RuntimeError(f"a manager that is {self.status.name} cannot become {status.name}")
        self.status = status

    def overrun(self, term: Term) -> None:
        """Work goes on past the deadline."""
        self._counts.overruns += 1
        self._metrics.emit(Metrics.overrun, term)
        error = OverrunError(term)
        _logger.error("%s", error, extra={"election": term.election, "token": term.token})
        self.on_trouble(error)

    def raised_late(self, term: Term, error: EtcdLeaderError, *, tell: bool) -> None:
        """Work or a callback has raised what the end of its term causes. ``tell``: tell ``on_error``, too."""
        _logger.warning(
            "work or a callback of %s for %r (token %d) raised %s after the end of its term: %s",
            *(term.identity, term.election, term.token, type(error).__name__, error),
            extra=_facts(term),
        )
        if tell:
            self.on_trouble(error)

    def short_lease(self, lease: float) -> None:
        """The campaign begins with a lease that is allowed, but not wise."""
        _logger.warning(
            "the lease of %s is %g s: each change of etcd's own leader can cost one that is below %g s",
            self._name,
            lease,
            MIN_RECOMMENDED_LEASE,
        )

    def borrowed_token(self) -> None:
        """The campaign uses an ``etcd3`` client whose token is not renewed. Log that once per manager."""
        if not self._warned_of_token:
            self._warned_of_token = True
            _logger.warning(
                "%s uses an etcd3 client that logged in when it was made: leadership ends when that token expires. "
                "Give the user and the password in an EtcdConfig instead, and logins are renewed",
                self._name,
            )

    def etcd_version(self, version: str) -> None:
        """etcd's version, told once for each connection."""
        if (defects := known_defects(version)) is not None:
            _logger.warning("%s", defects, extra={"etcd_version": version})

    def nobody_campaigns(self, after: float) -> None:
        """Somebody waits to be elected, and no campaign was begun."""
        _logger.warning("%s waits to be elected, but has not campaigned for %g s", self._name, after)

    def ousted_took_too_long(self, bound: float) -> None:
        """``on_ousted`` callbacks were cancelled."""
        _logger.warning("on_ousted callbacks of %s took longer than %g s and were cancelled", self._name, bound)

    def failed(self, error: BaseException) -> None:
        """The campaign ends with this exception, wherever it goes."""
        self._liveness.failed(error)
        _logger.error("campaign of %s ends with %s: %s", self._name, type(error).__name__, error)

    # Listener

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""
        self._count_error(error)
        self._report_trouble(self._outages.take(Input.CALL_FAILED, type(error)), error)

    def etcd_answered(self) -> None:
        """A call succeeded: the outage is over, unless renewals still fail."""
        self._liveness.heard()
        self._report_recovery(self._outages.take(Input.ANSWERED))

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """``watcher`` has no watch: that is an outage until it has one, whatever else works."""
        self._count_error(error)
        self._report_trouble(self._outages.watch_failed(watcher, type(error)), error)

    def watch_recovered(self, watcher: object) -> None:
        """``watcher`` has its watch, or wants none any more."""
        self._report_recovery(self._outages.watch_back(watcher, campaigning=self._liveness.campaigning))

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """Warn once per outage, and raise the voice once when less than a third of the lease is left."""
        self._liveness.heard(renewal=True)
        self._counts.renewal_failures += 1
        self._metrics.emit(Metrics.renewal_failed, remaining)
        self._count_error(error)
        late = remaining < self._config.lease / 3
        news = self._outages.take(Input.RENEWAL_FAILED_LATE if late else Input.RENEWAL_FAILED, type(error))
        self._report_trouble(news, error, remaining)

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed: whatever outage there was is over."""
        self._liveness.heard(renewal=True)
        counts = self._counts
        counts.renewals += 1
        if self.status is LeaderStatus.ELECTED:
            counts.min_remaining = remaining if counts.min_remaining is None else min(counts.min_remaining, remaining)
        self._metrics.emit(Metrics.renewed, duration, remaining)
        self._report_recovery(self._outages.take(Input.RENEWED))

    def loop_was_blocked(self, seconds: float) -> None:
        """The lease has run out, and the event loop did not run for at least so long."""
        _logger.warning(
            "the lease of %s has run out, and its event loop did not run for at least %.1f s: run what blocks it in a thread "
            "(if nothing does, the process or the machine was stopped or suspended)",
            *(self._name, seconds),
        )

    def lease_moved(self, lease_id: int) -> None:
        """The candidate key is on another lease."""
        self._liveness.heard(renewal=True)
        self._counts.lease_moves += 1
        self._metrics.emit(Metrics.lease_moved, lease_id)
        _logger.info("%s moved its key to lease %x: etcd has elected another leader", self._name, lease_id)
        self._report_recovery(self._outages.take(Input.RENEWED))

    def queued(self, position: int | None) -> None:
        """Our place in the queue."""
        waiting = self.status is not LeaderStatus.ELECTED
        if position is None:
            self._blocked_by = None  # the next candidacy may stand behind the same key, and has been warned
        self._liveness.heard(renewal=waiting)
        if waiting:
            # Behind somebody. Ahead of everybody, the seat is ours to take, and nobody has taken it yet.
            self._set_leader(known=bool(position))
        if position != self._counts.queue_position:
            self._counts.queue_position = position
            self._metrics.emit(Metrics.queued, position)

    def blocked(self, key: bytes | None) -> None:
        """A key ahead of ours has no lease: warn once of each. None: no such key is known."""
        self._blocked_by = key
        if key is not None and key != self._warned_of_key:
            _logger.warning(
                "%s waits behind the key %r, which has no lease and so never goes away by itself: no candidate behind it can "
                "be elected. Delete it: it was put by hand, or by a program that uses the prefix of the election",
                *(self._name, key.decode(errors="replace")),
            )
        self._warned_of_key = key

    def asked_to_resign(self) -> None:
        """An operator asks the leader to step down."""
        _logger.info("%s was asked to step down", self._name)
        self.on_resign_request()

    def candidacy_lost(self, reason: LossReason) -> None:
        """A candidate that waited has lost its lease or its key, and stands again."""
        self._set_leader(known=False)
        _logger.info("%s lost its place in the queue (%s) and stands again", self._name, reason.name)

    def candidacy_ended(self) -> None:
        """The next candidacy's renewals start with a clean slate."""
        self._liveness.heard()
        self._outages.take(Input.CANDIDACY_ENDED)

    def _count_error(self, error: EtcdLeaderError) -> None:
        self._liveness.heard()
        self._counts.etcd_errors += 1
        self._metrics.emit(Metrics.etcd_failed, error)

    def _report_trouble(self, news: Sequence[News], error: EtcdLeaderError, remaining: float | None = None) -> None:
        """Log what is news, and run ``on_error``. ``remaining``: seconds that are left of the lease, where a renewal failed."""
        if News.KIND in news:
            if remaining is None:
                _logger.warning("%s has trouble with etcd: %s", self._name, error)
            self.on_trouble(error)
        if News.RENEWALS_FAIL in news:
            _logger.warning("renewals of %s began to fail, %.1f s left: %s", self._name, remaining, error)
        if News.CRITICAL in news:
            _logger.error("renewals of %s still fail, only %.1f s left: %s", self._name, remaining, error)

    def _report_recovery(self, news: Sequence[News]) -> None:
        if news:
            _logger.info("%s has etcd back", self._name)

    def _set_leader(self, *, known: bool | None) -> None:
        if known is not self._leader_known:
            self._leader_known = known
            self._metrics.emit(Metrics.leader_known, known)

    def health(self, scope: TermScope | None) -> Health:
        """How it goes. From any thread.

        Args:
            scope: Of the term whose seat was not given back yet, if there is one.
        """
        return self._liveness.health(
            scope,
            position=self._counts.queue_position,
            blocked_by=self._blocked_by,
            renewals_fail=self._outages.state.renewals_fail,
        )

    def statistics(self, renewal_age: float | None) -> ElectionStatistics:
        """What was counted so far."""
        numbers = {each.name: getattr(self._counts, each.name) for each in fields(ElectionStatistics)}
        return ElectionStatistics(**numbers | {"losses": dict(self._counts.losses), "last_renewal_age": renewal_age})
