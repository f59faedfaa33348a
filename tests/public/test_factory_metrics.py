"""The factory gives metrics to the manager that it makes."""

from __future__ import annotations

from typing import Any

import pytest

from etcdleader import LeaderManager
from etcdleader import must_new_leader_manager_from_config as must
from etcdleader.metrics import Metrics, NullMetrics

ON: dict[str, Any] = {"leader": {"enabled": True}, "etcd": {"endpoints": ["a:1"]}}
OFF: dict[str, Any] = {"leader": {"enabled": False}}


@pytest.mark.parametrize("settings", [ON, OFF], ids=["on", "off"])
def test_metrics_are_given_to_the_factory_whichever_manager_it_makes(settings: dict[str, Any]) -> None:
    bound: list[LeaderManager] = []

    class Counting(NullMetrics):
        def bind(self, manager: LeaderManager) -> Metrics:
            bound.append(manager)
            return self

    manager = must("jobs", settings=settings, metrics=Counting())
    assert bound == [manager]
    must("jobs", settings=settings, metrics=None)


def test_metrics_of_a_wrong_type_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="metrics must be an object"):
        must("jobs", settings=OFF, metrics=[NullMetrics()])  # type: ignore[arg-type]
