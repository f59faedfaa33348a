"""Metrics that ignore all events, and the fan-out that isolates the election from exceptions in metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from .manager import LeaderManager, Metrics

__all__ = ("GuardedMetrics", "Metrics", "NullMetrics")

_logger = logging.getLogger("etcdleader")

P = ParamSpec("P")


class NullMetrics(Metrics):
    """Metrics that ignore all events."""

    def bind(self, manager: LeaderManager) -> Metrics:
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

    def add(self, metrics: Metrics, manager: LeaderManager) -> None:
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
