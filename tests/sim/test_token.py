"""The token is the create_revision of our key, however the key was found, and whatever else was written meanwhile."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import EtcdRegressedError, LossReason
from etcdleader.etcd3 import etcd3
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, make

pytestmark = pytest.mark.anyio


async def test_the_token_of_a_join_without_a_response_is_the_revision_of_its_key(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Other clients write between the put and the read that finds it."""
    client = etcd.client()
    manager = make(client, clock)
    client.lose_answer("txn")

    def write(call: Call) -> None:
        if call.kind == "txn" and call.stage == "after":
            etcd.hooks.clear()
            for number in range(10):
                etcd.put("other", str(number))

    etcd.hooks.append(write)
    async with manager:
        term = await manager.wait_elected()
        assert term.token == etcd.keys()[term.key.encode()].create_revision
        assert term.token < etcd.revision
        await anyio.sleep(3 * CONFIG.lease)
        assert term.is_valid()
        record = await manager.leader()
        assert record is not None
        assert record.token == term.token


async def test_a_regression_ends_the_campaign_though_etcd_has_passed_the_known_revision_again(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The restored etcd was written to while the work cleaned up. The next join alone could not detect the restore."""
    manager = make(etcd, clock)
    recorder = Recorder(manager)

    @manager.on_ousted
    async def write(*_: object) -> None:
        for number in range(100):
            etcd.put("other", str(number))

    with pytest.raises(EtcdRegressedError):
        async with manager:
            await manager.wait_elected()
            backup = etcd.snapshot()
            for number in range(20):
                etcd.put("other", str(number))
            await anyio.sleep(2 * CONFIG.renew)
            etcd.restore(backup)
            await anyio.sleep(60)
    assert len(recorder.terms) == 1


async def test_a_terms_own_transactions_do_not_hide_a_regression(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its responses are linearizable.

    The first one after the restore is below the revision that the term itself has written.
    """
    manager = make(etcd, clock)
    put = etcd3.transactions.Put("register", "x")
    with pytest.raises(EtcdRegressedError):
        async with manager:
            term = await manager.wait_elected()
            backup = etcd.snapshot()
            for _ in range(3):
                await term.transaction([put])
            etcd.restore(backup)
            with pytest.raises(EtcdRegressedError):
                await term.transaction([put])
            assert term.loss_reason is LossReason.REGRESSED
            await term.transaction([put])
            await anyio.sleep(60)
