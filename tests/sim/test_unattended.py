"""A bug of the library in a background task is reported. It costs the leases that the task renewed, and no others."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import LossReason
from etcdleader._lease.renewal_round import RenewalRound
from etcdleader.errors import EtcdLeaderError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, make, until

pytestmark = pytest.mark.anyio


async def test_a_renewer_that_crashes_ends_the_term_and_is_restarted(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        with monkeypatch.context() as broken:
            broken.setattr(RenewalRound, "_attempt", None)  # not callable: a TypeError
            await until(lambda: term.loss_reason is not None)
        assert term.loss_reason is LossReason.EXPIRED
        assert any("renewing leases failed unexpectedly" in str(error) for error in recorder.errors)
        again = await manager.wait_elected()
        await anyio.sleep(3 * CONFIG.lease)
        assert again.is_valid()


async def test_an_unexpected_error_of_a_keep_alive_fails_one_attempt_and_ends_no_term(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for any exception. It is a bug of the library, which must not cost all leases of the connection."""
    client = etcd.client()
    manager = make(client, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        with monkeypatch.context() as broken:
            broken.setattr(client, "lease_keep_alive", None)
            await until(lambda: manager.statistics().renewal_failures > 1)
        await anyio.sleep(3 * CONFIG.lease)
        assert manager.term is term
        assert any("sending keep-alives failed unexpectedly" in str(error) for error in recorder.errors)


async def test_a_campaign_that_fails_before_it_has_joined_raises_from_tg_start(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """`tg.start` returns only after the candidate is queued."""

    class Boom(Exception):
        pass

    etcd.stop()
    manager = make(etcd, clock)

    @manager.on_error
    def fail(_manager: object, error: EtcdLeaderError) -> None:
        raise Boom from error

    async with anyio.create_task_group() as group:
        with pytest.raises(Boom):
            await group.start(manager.campaign)


async def test_an_unexpected_error_of_the_version_monitor_stops_no_renewals(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    monkeypatch.setattr(client, "member_status", lambda **_: None)  # not awaitable: a TypeError
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(3 * CONFIG.lease)
        assert term.is_valid()
