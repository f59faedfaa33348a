"""The only writer of a manager's status: it sets it, wakes who waits, counts and logs; then callbacks may run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from ._core.status import Outcome, next_status
from .config import SHORT_LEASE
from .errors import EtcdLeaderError
from .metrics import Metrics
from .model import ElectionStatistics, LeaderStatus, LossReason, Term

__all__ = ("Announcer",)

_logger = logging.getLogger("etcdleader")


@dataclass(slots=True)
class _Counts:
    terms: int = 0
    losses: dict[LossReason, int] = field(default_factory=dict)
    renewals: int = 0
    renewal_failures: int = 0
    closest_call: float | None = None
    queue_position: int | None = None
    etcd_errors: int = 0
    overruns: int = 0


class Announcer:
    """One manager's news. Implements the ``Listener`` of its candidacies.

    Attributes:
        status: The manager's status.
        on_trouble: Called with an error once per kind per outage: the manager runs its ``on_error`` callbacks.
        on_resign_request: Called when an operator asks the leader to step down.
    """

    def __init__(self, name: str, lease: float, metrics: Metrics) -> None:
        self.status = LeaderStatus.INIT
        self.on_trouble: Callable[[EtcdLeaderError], None] = _ignore
        self.on_resign_request: Callable[[], None] = lambda: None
        self._name = name
        self._lease = lease
        self._metrics = metrics
        self._counts = _Counts()
        self._changed: anyio.Event | None = None
        self._outage: set[type[EtcdLeaderError]] = set()
        self._renewals_fail = False
        self._alarmed = False

    # Waiting for news

    def changed(self) -> None:
        """Something that waiters care about has changed."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_changed(self) -> None:
        """Wait for the next change."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    # Terms

    def elected(self, term: Term) -> None:
        """A term begins. Status first, so that callbacks and waiters find it."""
        self.status = next_status(self.status, Outcome.WON)
        self._counts.terms += 1
        self._metrics.elected(term)
        _logger.info(
            "%s leads %r with token %d",
            term.identity,
            term.election,
            term.token,
            extra={"election": term.election, "identity": term.identity, "token": term.token},
        )
        self.changed()

    def ending(self, term: Term) -> None:
        """A term is over; its work is being cancelled."""
        reason = term.loss_reason
        _logger.info(
            "%s leads %r no longer (token %d): %s",
            term.identity,
            term.election,
            term.token,
            reason.name if reason else "EXPIRED",
            extra={
                "election": term.election,
                "identity": term.identity,
                "token": term.token,
                "reason": reason.value if reason else "expired",
            },
        )
        self.changed()

    def ousted(self, term: Term, drain: float) -> None:
        """The work of a term has ended, ``drain`` seconds after it was cancelled."""
        self.status = next_status(self.status, Outcome.LOST)
        reason = term.loss_reason or LossReason.EXPIRED
        self._counts.losses[reason] = self._counts.losses.get(reason, 0) + 1
        self._metrics.ousted(term, reason, drain)
        self.changed()

    def overrun(self, term: Term) -> None:
        """Work goes on past the deadline."""
        self._counts.overruns += 1
        self._metrics.overrun(term)
        error = OverrunError(term)
        _logger.error("%s", error, extra={"election": term.election, "token": term.token})
        self.on_trouble(error)

    def nobody_to_tell(self) -> None:
        """No campaign runs any more, so no callbacks either."""
        self.on_trouble = _ignore

    def short_lease(self, lease: float) -> None:
        """The campaign begins with a lease that is allowed, but not wise."""
        _logger.warning(
            "the lease of %s is %g s: each change of etcd's own leader can cost one that is below %g s",
            self._name,
            lease,
            SHORT_LEASE,
        )

    def nobody_campaigns(self, after: float) -> None:
        """Somebody waits to be elected, and no campaign was begun."""
        _logger.warning("%s waits to be elected, but has not campaigned for %g s", self._name, after)

    def ousted_took_too_long(self, bound: float) -> None:
        """``on_ousted`` callbacks were cancelled."""
        _logger.warning("on_ousted callbacks of %s took longer than %g s and were cancelled", self._name, bound)

    def failed(self, error: BaseException) -> None:
        """The campaign ends with this exception, wherever it goes."""
        _logger.error("campaign of %s ends with %s: %s", self._name, type(error).__name__, error)

    # Listener

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""
        self._count_trouble(error, log=True)

    def etcd_answered(self) -> None:
        """A call succeeded: the outage is over, unless renewals still fail."""
        if not self._renewals_fail:
            self._recovered()

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """Warn once per outage, and raise the voice once when less than a third of the lease is left."""
        self._counts.renewal_failures += 1
        self._metrics.renewal_failed(remaining)
        self._count_trouble(error, log=False)
        if not self._renewals_fail:
            self._renewals_fail = True
            _logger.warning("renewals of %s began to fail, %.1f s left: %s", self._name, remaining, error)
        if not self._alarmed and remaining < self._lease / 3:
            self._alarmed = True
            _logger.error("renewals of %s still fail, only %.1f s left: %s", self._name, remaining, error)

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed: whatever outage there was is over."""
        counts = self._counts
        counts.renewals += 1
        if self.status is LeaderStatus.ELECTED:
            counts.closest_call = remaining if counts.closest_call is None else min(counts.closest_call, remaining)
        self._metrics.renewed(duration, remaining)
        self._recovered()

    def queued(self, position: int | None) -> None:
        """Our place in the queue."""
        if position != self._counts.queue_position:
            self._counts.queue_position = position
            self._metrics.queued(position)

    def asked_to_resign(self) -> None:
        """An operator asks the leader to step down."""
        _logger.info("%s was asked to step down", self._name)
        self.on_resign_request()

    def candidacy_lost(self, reason: LossReason) -> None:
        """A candidate that waited has lost its lease or its key, and stands again."""
        _logger.info("%s lost its place in the queue (%s) and stands again", self._name, reason.name)

    def candidacy_ended(self) -> None:
        """The next candidacy's renewals start with a clean slate."""
        self._renewals_fail = self._alarmed = False

    def _count_trouble(self, error: EtcdLeaderError, *, log: bool) -> None:
        self._counts.etcd_errors += 1
        self._metrics.etcd_failed(error)
        kind = type(error)
        if kind in self._outage:
            return
        self._outage.add(kind)
        if log:
            _logger.warning("%s has trouble with etcd: %s", self._name, error)
        self.on_trouble(error)

    def _recovered(self) -> None:
        if self._outage or self._renewals_fail:
            _logger.info("%s has etcd back", self._name)
        self._outage.clear()
        self._renewals_fail = self._alarmed = False

    def statistics(self, renewal_age: float | None) -> ElectionStatistics:
        """What was counted so far."""
        counts = self._counts
        return ElectionStatistics(
            terms=counts.terms,
            losses=dict(counts.losses),
            renewals=counts.renewals,
            renewal_failures=counts.renewal_failures,
            last_renewal_age=renewal_age,
            closest_call=counts.closest_call,
            queue_position=counts.queue_position,
            etcd_errors=counts.etcd_errors,
            overruns=counts.overruns,
        )


def _ignore(error: EtcdLeaderError) -> None:
    """Nobody to tell."""
    del error


class OverrunError(EtcdLeaderError):
    """Work of a term ignored its cancellation past the deadline: somebody else may lead while it still runs."""

    def __init__(self, term: Term) -> None:
        self.term = term
        super().__init__(term)

    def __str__(self) -> str:
        return (
            f"work of {self.term.identity} for {self.term.election!r} (token {self.term.token}) still runs past the "
            "end of its lease: it ignored cancellation, or blocks the event loop"
        )
