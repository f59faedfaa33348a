"""The only writer of a manager's status. It sets the status, counts, logs and wakes waiting tasks, in this order.

Callbacks may run after that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .._etcd.versions import known_defects
from ..config import MIN_RECOMMENDED_LEASE_SECONDS, Config
from ..errors import EtcdLeaderError
from ..metrics import GuardedMetrics, Metrics
from ..model import ElectionStatistics, Health, LeaderRecord, LeaderStatus, LossReason, Term
from .campaign_health import CampaignHealth
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
    """Do nothing. Used while no campaign runs."""


def _facts(term: Term, **more: object) -> dict[str, object]:
    """Return a term's attributes for a log record, for use by machines."""
    return {"election": term.election, "identity": term.identity, "token": term.token, **more}


@dataclass(slots=True, eq=False, repr=False)
class Reporter(Waiters):
    """Records and reports the events of one manager. Implements the ``Listener`` of its candidacies.

    Attributes:
        status: The manager's status.
        on_error: Called with each error that ``on_error`` callbacks receive: those of etcd once per kind and outage, and each
            overrun and late error of work.
        on_resign_request: Called when an operator asks the leader to step down.
        known_leader: The leader that was received last, and when that was, in seconds since 1970. It is replaced as a whole,
            because any thread may read it.
    """

    _name: str
    _config: Config
    _metrics: GuardedMetrics
    clock: InitVar[Callable[[], float]]
    status: LeaderStatus = LeaderStatus.INIT
    on_error: Callable[[EtcdLeaderError], None] = _ignore
    on_resign_request: Callable[[], None] = _ignore
    _counts: Any = field(default_factory=_Counts)  # for type checkers, the fields of ElectionStatistics are read-only
    _outages: Outages = field(default_factory=Outages)
    _health: CampaignHealth = field(init=False)
    _warned_of_token: bool = False
    _blocked_by: bytes | None = None
    _warned_of_key: bytes | None = None
    _leader_known: bool | None = None
    known_leader: tuple[LeaderRecord | None, float | None] = (None, None)

    def __post_init__(self, clock: Callable[[], float]) -> None:
        self._health = CampaignHealth(self._config, clock)
        self._metrics.emit(Metrics.leader_known, None)  # discards the value of a parent process from before the fork

    @property
    def outage(self) -> frozenset[type[EtcdLeaderError]]:
        """The kinds of errors in the current outage; empty if there is none."""
        return self._outages.kinds

    # Campaigns

    def campaign_begins(self) -> None:
        """Record that a campaign begins."""
        self._health.campaign_begins()
        self._set_leader(known=False)
        self.changed()

    def campaign_ends(self) -> None:
        """Record that the campaign has ended. Callbacks for errors are no longer called."""
        self.on_error = self.on_resign_request = _ignore
        self._health.campaign_ends()
        self._set_leader(known=None)

    # Terms

    def elected(self, term: Term) -> None:
        """Report that a term begins. The status is set first, so that callbacks and waiting tasks see it.

        Raises:
            RuntimeError: The previous term has not ended. This is a bug of the caller.
        """
        self._change_status(LeaderStatus.ELECTED)
        self._counts.terms += 1
        self._health.record_activity(renewal=True)
        self._metrics.emit(Metrics.elected, term)
        self._set_leader(known=True)
        _logger.info("%s leads %r with token %d", term.identity, term.election, term.token, extra=_facts(term))
        self.changed()

    def ending(self, term: Term) -> None:
        """Report that a term is over and that its work is being cancelled."""
        reason = term.loss_reason or LossReason.EXPIRED
        self._health.term_ends()
        self._set_leader(known=False)
        _logger.info(
            "%s lost leadership of %r (token %d): %s",
            *(term.identity, term.election, term.token, reason.name),
            extra=_facts(term, reason=reason.value),
        )
        self.changed()

    def ousted(self, term: Term, drain: float) -> None:
        """Report that the work of a term has ended, ``drain`` seconds after it was cancelled.

        Raises:
            RuntimeError: There was no term. This is a bug of the caller.
        """
        self._change_status(LeaderStatus.OUSTED)
        reason = term.loss_reason or LossReason.EXPIRED
        self._counts.losses[reason] = self._counts.losses.get(reason, 0) + 1
        self._health.record_activity()
        self._metrics.emit(Metrics.ousted, term, reason, drain)
        self.changed()

    def _change_status(self, status: LeaderStatus) -> None:
        if (self.status is LeaderStatus.ELECTED) != (status is LeaderStatus.OUSTED):
            raise RuntimeError(f"a manager that is {self.status.name} cannot become {status.name}")
        self.status = status

    def overrun(self, term: Term) -> None:
        """Report that work still runs after the deadline."""
        self._counts.overruns += 1
        self._metrics.emit(Metrics.overrun, term)
        error = OverrunError(term)
        _logger.error("%s", error, extra={"election": term.election, "token": term.token})
        self.on_error(error)

    def raised_late(self, term: Term, error: EtcdLeaderError, *, report: bool) -> None:
        """Log an error in work or a callback that the end of its term caused. ``report``: also call ``on_error``."""
        _logger.warning(
            "work or a callback of %s for %r (token %d) raised %s after the end of its term: %s",
            *(term.identity, term.election, term.token, type(error).__name__, error),
            extra=_facts(term),
        )
        if report:
            self.on_error(error)

    def short_lease(self, lease: float) -> None:
        """Warn that the lease is shorter than ``MIN_RECOMMENDED_LEASE_SECONDS``, which is allowed."""
        _logger.warning(
            "the lease of %s is %g s. It can be lost when etcd elects another leader: use at least %g s",
            self._name,
            lease,
            MIN_RECOMMENDED_LEASE_SECONDS,
        )

    def borrowed_token(self) -> None:
        """Warn, once per manager, that the campaign uses an ``etcd3`` client, which does not renew its token."""
        if not self._warned_of_token:
            self._warned_of_token = True
            _logger.warning(
                "%s uses an etcd3 client that logged in once: leadership ends when its token expires. "
                "Give the user and the password in an EtcdConfig instead; the library then logs in again",
                self._name,
            )

    def etcd_version(self, version: str) -> None:
        """Warn if this version of etcd has known defects. Called once for each connection."""
        if (defects := known_defects(version)) is not None:
            _logger.warning("%s", defects, extra={"etcd_version": version})

    def no_campaign(self, after: float) -> None:
        """Warn that a task waits for election, but no campaign was started."""
        _logger.warning("%s: still waiting for election after %g s, but no campaign is running", self._name, after)

    def ousted_took_too_long(self, bound: float) -> None:
        """Warn that ``on_ousted`` callbacks took too long and were cancelled."""
        _logger.warning("on_ousted callbacks of %s took longer than %g s and were cancelled", self._name, bound)

    def failed(self, error: BaseException) -> None:
        """Log the exception that ends the campaign, even if no task receives it."""
        self._health.failed(error)
        _logger.error("campaign of %s ends with %s: %s", self._name, type(error).__name__, error)

    # Listener

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Report that a call failed or a stream broke."""
        self._count_error(error)
        self._report_trouble(self._outages.take(Input.CALL_FAILED, type(error)), error)

    def etcd_answered(self) -> None:
        """Report that a call succeeded. The outage is over, unless renewals fail or a watch is missing."""
        self._health.record_activity()
        self._report_recovery(self._outages.take(Input.ANSWERED))

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """Report that ``watcher`` has no watch. The outage lasts until it has one, even if calls succeed."""
        self._count_error(error)
        self._report_trouble(self._outages.watch_failed(watcher, type(error)), error)

    def watch_recovered(self, watcher: object) -> None:
        """Report that ``watcher`` has its watch, or no longer needs one."""
        self._report_recovery(self._outages.watch_back(watcher, campaigning=self._health.campaigning))

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """Warn once per outage, and log one ERROR when less than a third of the lease is left."""
        self._health.record_activity(renewal=True)
        self._counts.renewal_failures += 1
        self._metrics.emit(Metrics.renewal_failed, remaining)
        self._count_error(error)
        late = remaining < self._config.lease / 3
        news = self._outages.take(Input.RENEWAL_FAILED_LATE if late else Input.RENEWAL_FAILED, type(error))
        self._report_trouble(news, error, remaining)

    def renewed(self, duration: float, remaining: float) -> None:
        """Report that a renewal was confirmed. The outage is over, unless a watch is missing."""
        self._health.record_activity(renewal=True)
        counts = self._counts
        counts.renewals += 1
        if self.status is LeaderStatus.ELECTED:
            counts.min_remaining = remaining if counts.min_remaining is None else min(counts.min_remaining, remaining)
        self._metrics.emit(Metrics.renewed, duration, remaining)
        self._report_recovery(self._outages.take(Input.RENEWED))

    def loop_was_blocked(self, seconds: float) -> None:
        """Warn that the lease has run out, and that the event loop did not run for at least ``seconds``."""
        _logger.warning(
            "the lease of %s has run out, and its event loop did not run for at least %.1f s. "
            "Run blocking code in a thread. If no code blocks the loop, the process or the machine was stopped or suspended",
            *(self._name, seconds),
        )

    def lease_moved(self, lease_id: int) -> None:
        """Report that the candidate key has moved to another lease."""
        self._health.record_activity(renewal=True)
        self._counts.lease_moves += 1
        self._metrics.emit(Metrics.lease_moved, lease_id)
        _logger.info("%s moved its key to lease %x: etcd has elected another leader", self._name, lease_id)
        self._report_recovery(self._outages.take(Input.RENEWED))

    def queued(self, position: int | None) -> None:
        """Report the candidate's position in the queue; None if it is not queued."""
        waiting = self.status is not LeaderStatus.ELECTED
        if position is None:
            self._blocked_by = None  # the next candidacy may be behind the same key, which has been logged
        self._health.record_activity(renewal=waiting)
        if waiting:
            # Behind another candidate there is a leader. At position 0 there is none until this candidate has won.
            self._set_leader(known=bool(position))
        if position != self._counts.queue_position:
            self._counts.queue_position = position
            self._metrics.emit(Metrics.queued, position)

    def blocked(self, key: bytes | None) -> None:
        """Warn, once per key, of a key ahead that has no lease. None: no such key is known."""
        self._blocked_by = key
        if key is not None and key != self._warned_of_key:
            _logger.warning(
                "%s waits behind the key %r, which has no lease and never expires. "
                "No candidate behind it can be elected. Delete the key: it was put by hand, or by a program that uses the "
                "prefix of the election",
                *(self._name, key.decode(errors="replace")),
            )
        self._warned_of_key = key

    def leader_seen(self, leader: LeaderRecord | None) -> None:
        """Store the leader that a read or an event has shown."""
        self.known_leader = leader, time.time()

    def leader_left(self, key: str) -> None:
        """Record that this candidate key no longer exists."""
        leader = self.known_leader[0]
        if leader is not None and leader.key == key:
            self.leader_seen(None)

    def asked_to_resign(self) -> None:
        """Log that an operator requests a step-down, and resign."""
        _logger.info("%s was asked to step down", self._name)
        self.on_resign_request()

    def candidacy_lost(self, reason: LossReason) -> None:
        """Report that a waiting candidate joins the queue again. RESIGNED: on request; otherwise, after a loss."""
        self._set_leader(known=False)
        if reason is LossReason.RESIGNED:
            _logger.info("%s was asked to let another candidate pass; rejoining the queue at its end", self._name)
        else:
            _logger.info("%s lost its candidacy (%s); rejoining the queue", self._name, reason.name)

    def candidacy_ended(self) -> None:
        """Record that the candidacy has ended. Its failed renewals do not count for the next one."""
        self._health.record_activity()
        self._outages.take(Input.CANDIDACY_ENDED)

    def _count_error(self, error: EtcdLeaderError) -> None:
        self._health.record_activity()
        self._counts.etcd_errors += 1
        self._metrics.emit(Metrics.etcd_failed, error)

    def _report_trouble(self, news: Sequence[News], error: EtcdLeaderError, remaining: float | None = None) -> None:
        """Log what is news, and call ``on_error``. ``remaining``: seconds left of the lease, if a renewal failed."""
        if News.KIND in news:
            if remaining is None:
                _logger.warning("%s: etcd request failed: %s", self._name, error)
            self.on_error(error)
        if News.RENEWALS_FAIL in news:
            _logger.warning("renewals of %s began to fail, %.1f s left: %s", self._name, remaining, error)
        if News.CRITICAL in news:
            _logger.error("renewals of %s still fail, only %.1f s left: %s", self._name, remaining, error)

    def _report_recovery(self, news: Sequence[News]) -> None:
        if news:
            _logger.info("%s: etcd connection restored", self._name)

    def _set_leader(self, *, known: bool | None) -> None:
        if known is not self._leader_known:
            self._leader_known = known
            self._metrics.emit(Metrics.leader_known, known)

    def health(self, scope: TermScope | None) -> Health:
        """Return the manager's health. Can be called from any thread.

        Args:
            scope: The scope of the term whose leadership has not been released yet, if there is one.
        """
        return self._health.health(
            scope,
            position=self._counts.queue_position,
            blocked_by=self._blocked_by,
            renewals_fail=self._outages.state.renewals_fail,
        )

    def statistics(self, renewal_age: float | None) -> ElectionStatistics:
        """Return what was counted so far."""
        numbers = {each.name: getattr(self._counts, each.name) for each in fields(ElectionStatistics)}
        return ElectionStatistics(**numbers | {"losses": dict(self._counts.losses), "last_renewal_age": renewal_age})
