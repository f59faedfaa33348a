"""Metrics are added once, refused in words, and cannot harm the election by an exception."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from etcdleader import EtcdConfig, EtcdLeaderManager, LeaderManager, NoopLeaderManager
from etcdleader.config import Config
from etcdleader.metrics import GuardedMetrics, Metrics, NullMetrics


class Counting(NullMetrics):
    def __init__(self) -> None:
        self.bound: list[LeaderManager] = []
        self.failures = 0

    def bind(self, manager: LeaderManager) -> Metrics:
        self.bound.append(manager)
        return self

    def renewal_failed(self, remaining: float) -> None:
        self.failures += 1


def test_what_is_added_twice_counts_once() -> None:
    """The factory may have received the same object that the program adds to all of its managers."""
    manager, metrics = NoopLeaderManager(), Counting()
    guarded = GuardedMetrics()
    for _ in range(2):
        guarded.add(metrics, manager)
        manager.add_metrics(metrics)
    guarded.emit(Metrics.renewal_failed, 1.0)
    assert (metrics.bound, metrics.failures) == ([manager, manager], 1)


@pytest.mark.parametrize("wrong", [[Counting()], Counting, object(), "prometheus"])
def test_what_is_no_metrics_object_is_refused_where_it_is_added(wrong: Any) -> None:
    """An iterable and a class are what people try first."""
    with pytest.raises(TypeError, match=r"metrics must be an object with the methods of etcdleader\.metrics\.Metrics"):
        NoopLeaderManager().add_metrics(wrong)
    with pytest.raises(TypeError, match="metrics must be an object"):
        EtcdLeaderManager(EtcdConfig("127.0.0.1:2379"), Config(enabled=True), "jobs", metrics=wrong)


def test_each_object_is_called_and_only_its_first_exception_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(NullMetrics):
        def renewal_failed(self, remaining: float) -> None:
            raise RuntimeError("out of order")

    guarded, counting = GuardedMetrics(), Counting()
    for metrics in (Broken(), counting, Broken()):
        guarded.add(metrics, NoopLeaderManager())
    with caplog.at_level(logging.ERROR, "etcdleader"):
        for _ in range(3):
            guarded.emit(Metrics.renewal_failed, 1.0)
    assert counting.failures == 3
    assert len(caplog.records) == 2
