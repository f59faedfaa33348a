"""An event loop that is blocked past the deadline, beside a real etcd that deletes the key meanwhile."""

from __future__ import annotations

import time

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager, LossReason
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="blocked", lease=3, renew=0.5, retry=0.5, margin=1)
BLOCKED = 6
"""Seconds: etcd has deleted the key long before the loop runs again, and its event is there."""
PATIENCE = 60


async def test_a_loop_that_was_blocked_past_the_lease_is_named_and_no_intruder(
    etcd_server: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = EtcdLeaderManager(etcd_server.config, CONFIG, election_key)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            await anyio.sleep(0.2)
            time.sleep(BLOCKED)  # noqa: ASYNC251 - that is what is tested
            assert not manager.is_leader()
            while manager.statistics().terms < 2:
                await anyio.sleep(0.02)
    assert term.loss_reason is LossReason.EXPIRED
    assert manager.statistics().losses[LossReason.EXPIRED] >= 1
    assert LossReason.DELETED not in manager.statistics().losses
    assert any("event loop did not run for at least" in record.message for record in caplog.records)
