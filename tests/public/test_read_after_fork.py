"""In a forked child, a thread of a metrics library may read a manager while the main thread begins its campaign."""

from __future__ import annotations

import threading

import anyio
import pytest

from etcdleader import LeaderManager, NoopLeaderManager
from etcdleader._managers import base, noop_manager
from etcdleader.metrics import NullMetrics


class Slow(NoopLeaderManager):
    """Stops in the middle of its reset, as a thread does that the operating system has suspended."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        super().__init__(election_key="jobs")

    def _draw_identity(self) -> str:
        self.entered.set()
        self.go_on.wait(60)
        return super()._draw_identity()


@pytest.mark.anyio
async def test_a_campaign_waits_for_the_reset_that_another_thread_has_begun(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the thread discards the campaign: the manager would lead, and report that it does not campaign."""
    manager = Slow()
    manager.entered.clear()
    manager.go_on.clear()
    for module in (base, noop_manager):
        monkeypatch.setattr(module, "process_id", lambda: (1, 1))
    reader = threading.Thread(target=manager.health)
    reader.start()
    manager.entered.wait(60)
    threading.Timer(0.2, manager.go_on.set).start()
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        reader.join()
        assert manager.health().state.value != "not_campaigning"
        with pytest.raises(anyio.BusyResourceError):
            await manager.campaign()
        await manager.stop()


def test_metrics_may_read_the_manager_while_it_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """They receive the news that no leader is known, and may read whatever they like."""
    read: list[bool] = []

    class Reading(NullMetrics):
        def bind(self, manager: LeaderManager) -> Reading:
            self.manager = manager
            return self

        def leader_known(self, known: bool | None) -> None:
            read.append(self.manager.is_leader())

    manager = NoopLeaderManager(election_key="jobs")
    manager.add_metrics(Reading())
    for fork in range(3):
        monkeypatch.setattr(base, "process_id", lambda fork=fork: (1, fork))
        assert not manager.is_leader()
        assert len(read) == fork + 1
