"""The protocol of metrics, metrics that ignore all events, and the fan-out that isolates the election from exceptions."""

# ruff: noqa: ARG002 - a hook that does not count uses no argument

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol

from .errors import EtcdLeaderError
from .model import LossReason, Term

__all__ = ("GuardedMetrics", "Metrics", "NullMetrics")

_logger = logging.getLogger("etcdleader")

P = ParamSpec("P")


class Metrics(Protocol):
    """The hooks of an election. They are called on the event loop at each event, must return promptly, and must not raise.

    Subclass :class:`NullMetrics` to implement some of them. If an implementation raises, its first exception is logged. The
    election is not affected.
    """

    # `return` marks a body that a subclass may inherit. Type checkers treat an empty body in a protocol as abstract.

    def bind(self, manager: Any) -> Metrics:
        """Return the object that counts for this :class:`LeaderManager`.

        Called once, when the manager receives these metrics. Return this object if it counts for one manager, or for
        all alike. Otherwise, return another object for this manager.
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
        """The candidate key has moved to another lease, because etcd has elected another leader."""
        return

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""
        return

    def queued(self, position: int | None) -> None:
        """The position in the queue changed: 0 for the leader, None outside the queue."""
        return

    def overrun(self, term: Term) -> None:
        """Work ignored its cancellation past the deadline."""
        return

    def leader_known(self, known: bool | None) -> None:  # noqa: FBT001 - it is what happened, not a switch
        """Called when a leader becomes known to this candidate, or unknown.

        - True: it leads, or is queued behind another candidate.
        - False: it campaigns, but there is no known leader.
        - None: it no longer campaigns.

        A dead leader is known until its lease ends, because etcd does not detect its death sooner.
        """
        return


class NullMetrics(Metrics):
    """Metrics that ignore all events."""

    def bind(self, manager: Any) -> Metrics:
        """Return this object."""
        del manager
        return self


class GuardedMetrics:
    """Passes events to any number of ``Metrics``, and protects the election from their exceptions.

    The first exception of each is logged. All of them are still called.
    """

    __slots__ = ("_added", "_complained", "_receivers")

    def __init__(self) -> None:
        self._added: tuple[Metrics, ...] = ()
        self._receivers: tuple[Metrics, ...] = ()
        self._complained: tuple[int, ...] = ()

    def add(self, metrics: Metrics, manager: Any) -> None:
        """Call these metrics, too, from now on. An object that was added before is not added again.

        Raises:
            TypeError: ``metrics`` has no method ``bind``, or is a class.
            Exception: The exception that ``metrics.bind(manager)`` raised. Nothing is added then.
        """
        if isinstance(metrics, type) or not callable(getattr(metrics, "bind", None)):
            raise TypeError(
                f"metrics must be an object with the methods of etcdleader.metrics.Metrics, not {metrics!r}. "
                "Add each further one by manager.add_metrics()"
            )
        if not any(metrics is added for added in self._added):
            self._receivers = (*self._receivers, metrics.bind(manager))
            self._added = (*self._added, metrics)

    def emit(self, event: Callable[Concatenate[Metrics, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call one method of all metrics.

        Args:
            event: The method, as a function of ``Metrics``: ``emit(Metrics.elected, term)``.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        for metrics in self._receivers:
            try:
                getattr(metrics, event.__name__)(*args, **kwargs)
            except Exception as error:
                if id(metrics) not in self._complained:
                    self._complained = (*self._complained, id(metrics))
                    _logger.exception(
                        "%s.%s raised %s. The election continues; further exceptions of this object are not logged",
                        type(metrics).__name__,
                        event.__name__,
                        type(error).__name__,
                    )
