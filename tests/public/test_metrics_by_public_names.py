"""Metrics use the public names of a manager only, so they serve any implementation of the contract."""

from __future__ import annotations

import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from etcdleader import NoopLeaderManager
from etcdleader.prometheus import PrometheusMetrics
from tests.helpers.otel import Collected

METRICS = {"etcdleader.metrics", "etcdleader.prometheus", "etcdleader.opentelemetry", "etcdleader._managers.facts"}


class Guarded(NoopLeaderManager):
    """Refuses its private attributes to metrics."""

    read: set[str] = set()  # noqa: RUF012 - of all

    def __getattribute__(self, name: str) -> object:
        reader = sys._getframe(1).f_globals["__name__"]
        if reader in METRICS:
            self.read.add(name)
            if name.startswith("_") and not name.endswith("__"):
                raise AssertionError(f"{reader} reads {name}")
        return super().__getattribute__(name)


@pytest.mark.anyio
async def test_metrics_need_no_private_name_of_a_manager(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    manager, collected, registry = Guarded(election_key="jobs"), Collected(), CollectorRegistry()
    prometheus = PrometheusMetrics(registry)
    prometheus.attach(manager)
    manager.add_metrics(collected.metrics)
    async with manager:
        await manager.wait_elected()
        assert collected("leader.count") == 1
        assert b'etcdleader_is_leader{election="jobs"} 1.0' in generate_latest(registry)
        await manager.extend()
    assert collected("term.losses", etcdleader__loss__reason="stopped") == 1
    assert {"is_leader", "health", "statistics", "config", "election_key"} <= manager.read
    assert "raised" not in caplog.text
