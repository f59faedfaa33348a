"""A call whose response is lost may have been applied. That leaves no orphan key and no leaked lease."""

from __future__ import annotations

import math

import anyio
import pytest

from etcdleader import EtcdUnavailableError
from etcdleader._etcd.error_mapping import error_from_status
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import CallKind
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, make, until

pytestmark = pytest.mark.anyio

KINDS: tuple[CallKind, ...] = ("lease_grant", "txn", "lease_keep_alive", "watch", "lease_revoke")


@pytest.mark.parametrize("lost", ["request", "answer", "error but applied", "error"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_call_leaves_no_orphan_and_no_leaked_lease(
    etcd: FakeEtcd, clock: VirtualClock, kind: CallKind, lost: str
) -> None:
    """Each call of a candidacy is lost before and after it is applied, or fails although it was applied."""
    client = etcd.client()
    manager = make(client, clock)
    if lost == "request":
        client.lose_request(kind)
    elif lost == "answer":
        client.lose_answer(kind)
    else:
        client.fail(kind, EtcdUnavailableError("etcdserver: out of space"), applied=lost != "error")
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        with anyio.fail_after(10):
            term = await manager.wait_elected()
        await anyio.sleep(15)
        assert manager.is_leader()
        assert list(etcd.keys()) == [term.key.encode()]
        assert list(etcd.leases()) == [term.lease_id], "one candidacy, one lease"
        await manager.stop()
    assert not etcd.keys()
    assert not etcd.leases()


async def test_a_grant_with_a_late_response_leaves_no_second_lease(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The repeated grant conflicts with its own first attempt: "already exists"."""
    client = etcd.client()
    client.delay("lease_grant", answer=CONFIG.retry * 3)
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(CONFIG.lease)
        assert list(etcd.leases()) == [term.lease_id]


async def test_a_join_that_was_applied_late_is_found_with_the_token_of_its_key(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The first attempt of the transaction arrives after its timeout, next to the second one."""
    client = etcd.client()
    client.delay("txn", request=CONFIG.retry * 1.05)
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        assert etcd.keys()[term.key.encode()].create_revision == term.token
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_a_join_that_arrives_after_the_end_of_its_lease_creates_no_key(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """When candidacies reused their lease, a late first attempt created the key again in 19 of 30 runs."""
    client = etcd.client()
    client.delay("txn", request=CONFIG.lease)
    manager = make(client, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await anyio.sleep(0.5)
        await manager.stop()
        await anyio.sleep(3 * CONFIG.lease)
    assert not etcd.keys()
    assert not etcd.leases()


async def test_a_candidate_waits_while_etcd_has_no_space_and_then_joins(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    etcd.no_space = True
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await anyio.sleep(30)
        assert not manager.is_leader()
        etcd.no_space = False
        with anyio.fail_after(3):
            await manager.wait_elected()
        # A leader keeps leading: keep-alives, reads and revocations work without space.
        etcd.no_space = True
        await anyio.sleep(60)
        assert manager.is_leader()
        await manager.stop()
    await until(lambda: not etcd.leases())


async def test_a_corrupt_cluster_breaks_no_stream_and_switches_no_endpoint(clock: VirtualClock) -> None:
    """All members refuse alike, and each switch would affect another candidate on the connection."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        leader, candidate = make(client, clock), make(client, clock, "b", election="another")
        recorder = Recorder(candidate)
        async with leader:
            term = await leader.wait_elected()
            await anyio.sleep(CONFIG.renew + CONFIG.retry)  # both streams exist
            streams = set(client.member.streams)
            client.fail(
                "lease_grant", error_from_status("DATA_LOSS", "etcdserver: corrupt cluster", "etcd"), times=math.inf
            )
            async with candidate:
                await anyio.sleep(30)
                assert not candidate.is_leader()
                assert client.calls["report_endpoint_failure"] == 0
                assert streams == set(client.member.streams)
                assert len(streams) == 2
                assert term.is_valid()
                assert [str(error)[:38] for error in recorder.errors] == ["DATA_LOSS: etcdserver: corrupt cluster"]
                client.clear_faults()
                await candidate.wait_elected()
