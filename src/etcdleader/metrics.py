"""What a manager tells whoever counts: the names and meanings of the numbers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from .errors import EtcdLeaderError
from .model import LossReason, Term

if TYPE_CHECKING:
    from .manager import LeaderManager

__all__ = ("GuardedMetrics", "Metrics", "NullMetrics")

_logger = logging.getLogger("etcdleader")


class Metrics(Protocol):
    """Called on the event loop, as things happen. An implementation must return promptly and must not raise.

    Subclass :class:`NullMetrics` to count some of it. What an implementation raises all the same is logged once and
    does not reach the election.
    """

    def for_manager(self, manager: LeaderManager) -> Metrics:
        """A manager was given these metrics. Returns whom to tell what happens to it: this object, where one counts for
        one manager, or another that knows which manager it counts for."""
        ...

    def elected(self, term: Term) -> None:
        """A term began."""

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """A term ended and its work has ended ``drain`` seconds after it was cancelled."""

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed ``duration`` seconds after it was sent, when ``remaining`` seconds were left."""

    def renewal_failed(self, remaining: float) -> None:
        """A renewal was not confirmed; ``remaining`` seconds are left."""

    def lease_moved(self, lease_id: int) -> None:
        """The candidate key is on another lease, because etcd has elected another leader."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""

    def queued(self, position: int | None) -> None:
        """The place in the queue: 0 leads, None stands outside."""

    def overrun(self, term: Term) -> None:
        """Work ignored its cancellation past the deadline."""

    def leader_seen(self, seen: bool | None) -> None:  # noqa: FBT001 - it is what happened, not a switch
        """Whether a leader is known, as far as this candidate sees: True while it leads or stands in the queue behind
        somebody; False while it campaigns otherwise; None when it campaigns no more. Called at each change.

        One that has died is seen until its lease ends: etcd itself does not know sooner.
        """


class NullMetrics:
    """Counts nothing."""

    def for_manager(self, manager: LeaderManager) -> Metrics:
        """This object."""
        del manager
        return self

    def elected(self, term: Term) -> None:
        """Nothing."""

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """Nothing."""

    def renewed(self, duration: float, remaining: float) -> None:
        """Nothing."""

    def renewal_failed(self, remaining: float) -> None:
        """Nothing."""

    def lease_moved(self, lease_id: int) -> None:
        """Nothing."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Nothing."""

    def queued(self, position: int | None) -> None:
        """Nothing."""

    def overrun(self, term: Term) -> None:
        """Nothing."""

    def leader_seen(self, seen: bool | None) -> None:  # noqa: FBT001 - as in the protocol
        """Nothing."""


class GuardedMetrics:
    """Tells any number of ``Metrics``, none of which can hurt the election: the first thing that one raises is logged,
    and it is told on, like the others."""

    __slots__ = ("_complained", "_told")

    def __init__(self) -> None:
        self._told: tuple[Metrics, ...] = ()
        self._complained: tuple[int, ...] = ()

    def add(self, metrics: Metrics, manager: LeaderManager) -> None:
        """Tell this one, too, from now on. What its ``for_manager`` raises is raised: nothing is at stake yet."""
        self._told = (*self._told, metrics.for_manager(manager))

    def for_manager(self, manager: LeaderManager) -> Metrics:
        """This object: each of those it tells was asked when it was added."""
        del manager
        return self

    def elected(self, term: Term) -> None:
        """Pass it on."""
        self._tell("elected", term)

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """Pass it on."""
        self._tell("ousted", term, reason, drain)

    def renewed(self, duration: float, remaining: float) -> None:
        """Pass it on."""
        self._tell("renewed", duration, remaining)

    def renewal_failed(self, remaining: float) -> None:
        """Pass it on."""
        self._tell("renewal_failed", remaining)

    def lease_moved(self, lease_id: int) -> None:
        """Pass it on."""
        self._tell("lease_moved", lease_id)

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Pass it on."""
        self._tell("etcd_failed", error)

    def queued(self, position: int | None) -> None:
        """Pass it on."""
        self._tell("queued", position)

    def overrun(self, term: Term) -> None:
        """Pass it on."""
        self._tell("overrun", term)

    def leader_seen(self, seen: bool | None) -> None:  # noqa: FBT001 - as in the protocol
        """Pass it on."""
        self._tell("leader_seen", seen)

    def _tell(self, what: str, *arguments: object) -> None:
        for metrics in self._told:
            try:
                getattr(metrics, what)(*arguments)
            except Exception as error:
                if id(metrics) not in self._complained:
                    self._complained = (*self._complained, id(metrics))
                    _logger.exception(
                        "%s.%s raised %s; the election goes on, and further errors of it are not logged",
                        type(metrics).__name__,
                        what,
                        type(error).__name__,
                    )
