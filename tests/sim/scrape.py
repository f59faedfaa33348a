"""Scrape the metrics of managers on a fake etcd."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from etcdleader import EtcdLeaderManager
from etcdleader.prometheus import PrometheusMetrics
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import ELECTION

__all__ = ("Scrape",)


class Scrape:
    """Returns what Prometheus would scrape for one election."""

    def __init__(self, clock: VirtualClock) -> None:
        self.registry = CollectorRegistry()
        self.metrics = PrometheusMetrics(self.registry, clock=clock)

    def __call__(self, name: str, election: str = ELECTION, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"etcdleader_{name}", {"election": election, **labels})

    def watching(self, manager: EtcdLeaderManager) -> EtcdLeaderManager:
        self.metrics.attach(manager)
        return manager
