"""Collects the metrics of managers by an SDK of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)

from etcdleader._runtime.clock import boottime
from etcdleader.opentelemetry import OpenTelemetryMetrics

__all__ = ("EXPOSED", "Collected", "Point")

EXPOSED = {
    "etcdleader.terms": ("counter", "{term}"),
    "etcdleader.term.losses": ("counter", "{term}"),
    "etcdleader.term.overruns": ("counter", "{term}"),
    "etcdleader.term.token": ("gauge", "{revision}"),
    "etcdleader.etcd.errors": ("counter", "{error}"),
    "etcdleader.renewal.failures": ("counter", "{renewal}"),
    "etcdleader.renewal.duration": ("histogram", "s"),
    "etcdleader.renewal.remaining_time": ("histogram", "s"),
    "etcdleader.drain.duration": ("histogram", "s"),
    "etcdleader.lease.moves": ("counter", "{move}"),
    "etcdleader.lease.remaining_time": ("gauge", "s"),
    "etcdleader.lease.min_remaining_time": ("gauge", "s"),
    "etcdleader.leader.count": ("up-down counter", "{leader}"),
    "etcdleader.leader.known": ("gauge", "1"),
    "etcdleader.leaderless.time": ("counter", "s"),
    "etcdleader.queue.position": ("gauge", "{candidate}"),
    "etcdleader.health.status": ("up-down counter", "{manager}"),
    "etcdleader.config.lease": ("gauge", "s"),
    "etcdleader.config.retry": ("gauge", "s"),
    "etcdleader.config.renew": ("gauge", "s"),
    "etcdleader.config.margin": ("gauge", "s"),
}
"""The instrument and the unit of each metric."""


@dataclass(frozen=True)
class Point:
    name: str
    attributes: dict[str, object]
    data: NumberDataPoint | HistogramDataPoint


class Collected:
    """A meter provider, metrics on it, and what it collects."""

    def __init__(
        self,
        clock: Callable[[], float] = boottime,
        temporality: dict[type, AggregationTemporality] | None = None,
    ) -> None:
        self.reader = InMemoryMetricReader(preferred_temporality=temporality)
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.metrics = OpenTelemetryMetrics(self.provider, clock=clock)

    def all(self) -> list[Metric]:
        """Collect once. Each metric appears once."""
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        assert len({metric.name for metric in found}) == len(found)
        return found

    def points(self) -> Iterator[Point]:
        for metric in self.all():
            for data in metric.data.data_points:
                assert not isinstance(data, ExponentialHistogramDataPoint)
                yield Point(metric.name, dict(data.attributes or {}), data)

    def points_of(self, name: str, election: str = "jobs", **more: str) -> list[NumberDataPoint | HistogramDataPoint]:
        wanted = {"etcdleader.election": election, **{key.replace("__", "."): value for key, value in more.items()}}
        return [
            point.data for point in self.points() if point.name == f"etcdleader.{name}" and point.attributes == wanted
        ]

    def __call__(self, name: str, election: str = "jobs", **more: str) -> float | None:
        """Return a number; None if it is missing."""
        points = self.points_of(name, election, **more)
        assert len(points) <= 1
        if not points:
            return None
        assert isinstance(points[0], NumberDataPoint)
        return points[0].value
