"""The hooks by which a manager reports what happens to it: the names and meanings of the numbers."""

# ruff: noqa: ARG002 - a hook that counts nothing uses no argument
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol

from .errors import EtcdLeaderError
from .model import LossReason, Term

if TYPE_CHECKING:
    from .manager import LeaderManager

__all__ = ("GuardedMetrics", "Metrics", "NullMetrics")

_logger = logging.getLogger("etcdleader")

P = ParamSpec("P")


class Metrics(Protocol):
    """Called on the event loop, as things happen. An implementation must return promptly and must not raise.

    Subclass :class:`NullMetrics` to count some of it. What an implementation raises all the same is logged once and
    does not reach the election.
    """

    # `return` marks a body that a subclass may inherit: type checkers take an empty one in a protocol for abstract.

    def bind(self, manager: LeaderManager) -> Metrics:
        """Return the object that counts for this manager.

        Called once, when the manager receives these metrics. Return this object if it counts for one manager or for all
        alike, or another one that knows its manager.
        """
        ...

    def elected(self, term: Term) -> None:
        """A term began."""
        return

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """A term ended and its work has ended ``drain`` seconds after it was cancelled."""
        return

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed ``duration`` seconds after it was sent, when ``remaining`` seconds were left."""
        return

    def renewal_failed(self, remaining: float) -> None:
        """A renewal was not confirmed; ``remaining`` seconds are left."""
        return

    def lease_moved(self, lease_id: int) -> None:
        """The candidate key is on another lease, because etcd has elected another leader."""
        return

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""
        return

    def queued(self, position: int | None) -> None:
        """The place in the queue: 0 leads, None stands outside."""
        return

    def overrun(self, term: Term) -> None:
        """Work ignored its cancellation past the deadline."""
        return

    def leader_known(self, known: bool | None) -> None:  # noqa: FBT001 - it is what happened, not a switch
        """Whether this candidate knows of a leader. Called at each change.

        True while it leads, or stands in the queue behind another candidate; False while it campaigns otherwise; None
        when it campaigns no more. A leader that has died is known until its lease ends: etcd itself does not know sooner.
        """
        return


class NullMetrics(Metrics):
    """Counts nothing."""

    def bind(self, manager: LeaderManager) -> Metrics:
        """Return this object."""
        del manager
        return self


class GuardedMetrics:
    """Passes events on to any number of ``Metrics``, none of which can hurt the election.

    The first exception of each is logged. It is still called, and so are the others.
    """

    __slots__ = ("_complained", "_receivers")

    def __init__(self) -> None:
        self._receivers: tuple[Metrics, ...] = ()
        self._complained: tuple[int, ...] = ()

    def add(self, metrics: Metrics, manager: LeaderManager) -> None:
        """Call these, too, from now on. An exception of their ``bind`` is raised: nothing is at stake yet."""
        self._receivers = (*self._receivers, metrics.bind(manager))

    def emit(self, event: Callable[Concatenate[Metrics, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call one method of each.

        Args:
            event: The method, as a function of ``Metrics``: ``emit(Metrics.elected, term)``.
            args: Its arguments.
            kwargs: Its arguments.
        """
        for metrics in self._receivers:
            try:
                getattr(metrics, event.__name__)(*args, **kwargs)
            except Exception as error:
                if id(metrics) not in self._complained:
                    self._complained = (*self._complained, id(metrics))
                    _logger.exception(
                        "%s.%s raised %s; the election goes on, and further errors of it are not logged",
                        type(metrics).__name__,
                        event.__name__,
                        type(error).__name__,
                    )
