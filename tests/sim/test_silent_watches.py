"""A watch stream falls silent while all other calls are answered. Renewals would detect that, but far later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from etcdleader import Config, LossReason
from etcdleader._etcd.api import WatchBroken, WatchCreated, WatchEvents
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.fake_watch import revisions, watch_k
from tests.sim.world import Recorder, make, until

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="silent", lease=60, renew=50, retry=2, margin=2)
"""Renewals are far apart, so anything detected earlier came from a watch."""
FOUND = 2 * CONFIG.retry + 0.2
"""The progress request after ``retry``, the end of the stream after another ``retry``, and the next stream."""


@pytest.fixture
async def etcd(anyio_backend: object) -> AsyncIterator[FakeEtcd]:
    """Provide an etcd of three members."""
    async with FakeEtcd(members=3) as fake:
        yield fake


@asynccontextmanager
async def silenced(client: FakeClient) -> AsyncIterator[None]:
    """Silence the watch stream permanently, a moment after it has delivered something."""
    await anyio.sleep(1)
    client.silence_watches()
    await anyio.sleep(0.1)
    yield
    assert client.calls["report_endpoint_failure"] == 0, "another stream on the same endpoint is enough"


async def test_a_leader_with_a_silent_watch_finds_its_deleted_key_through_a_new_stream(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock, config=CONFIG)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        async with silenced(client):
            etcd.delete(term.key)
            await until(lambda: not term.is_valid(), timeout=FOUND)
            assert term.loss_reason is LossReason.DELETED
            again = await manager.wait_elected()
            assert again.token > term.token
            assert recorder.errors == []


@pytest.mark.parametrize("place", [1, 2], ids=["next in line", "third"])
async def test_a_waiting_candidate_with_a_silent_watch_finds_its_turn_through_a_new_stream(
    etcd: FakeEtcd, clock: VirtualClock, place: int
) -> None:
    clients = [etcd.client(f"candidate {number}") for number in range(place + 1)]
    managers = [make(client, clock, client.name, config=CONFIG) for client in clients]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
            await anyio.sleep(0.1)
        async with silenced(clients[place]):
            for manager in managers[:place]:
                await manager.stop()
            with anyio.fail_after(FOUND):
                await managers[place].wait_elected()
        await managers[place].stop()


async def test_a_pair_at_rest_requests_progress_once_in_retry_and_keeps_its_streams(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Renewals change no key, so no event arrives without a request."""
    client = etcd.client()
    managers = [make(client, clock, name, config=CONFIG) for name in ("a", "b")]
    recorders = [Recorder(manager) for manager in managers]
    async with managers[0]:
        await managers[0].wait_elected()
        async with managers[1]:
            await anyio.sleep(CONFIG.retry)
            streams, before = set(client.member.streams), client.calls.copy()
            await anyio.sleep(600)
            spent = client.calls - before
            assert 290 <= spent["watch_progress"] <= 300
            assert spent["watch"] == spent["report_endpoint_failure"] == 0
            assert streams <= set(client.member.streams)
            assert [recorder.errors for recorder in recorders] == [[], []]


async def test_a_resumed_watch_without_events_is_not_considered_silent(etcd: FakeEtcd) -> None:
    """etcd reports no progress while a watch begins at a future revision. Here that revision never comes."""
    client = etcd.client()
    etcd.put("k/1")
    got = watch_k(client)
    await anyio.sleep(0.5)
    etcd.put("k/2")
    await anyio.sleep(0.5)
    client.break_streams()
    await anyio.sleep(600)
    assert client.calls["watch"] == 2
    kinds = [type(message) for message in got]
    assert kinds == [WatchCreated, WatchEvents, WatchBroken, WatchCreated]
    etcd.put("k/3")
    await anyio.sleep(0.1)
    assert revisions(got) == [3, 4]


async def test_the_client_leaves_a_member_on_which_every_watch_stream_is_silent(etcd: FakeEtcd) -> None:
    """The client opens one new stream on the same endpoint, then tries another endpoint."""
    client = etcd.client()
    got = watch_k(client, timeout=2.0)
    for streams in (1, 2):
        await anyio.sleep(0.5)
        assert client.calls["watch"] == streams
        client.silence_watches()
        await anyio.sleep(3.7)
    assert client.member is etcd.members[1]
    etcd.put("k/1")
    await anyio.sleep(0.5)
    assert revisions(got) == [2]


async def test_silent_watches_on_all_endpoints_cause_no_storm_of_errors_or_streams(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """No endpoint delivers a watch event for ten minutes. Renewals keep the leadership."""
    client = etcd.client()
    manager = make(client, clock, config=CONFIG)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(1)
        client.stall_watches()
        await anyio.sleep(600)
        assert term.is_valid()
        assert len(recorder.errors) == 1
        assert client.calls["watch"] <= 600 / CONFIG.retry
        client.resume_watches()
        await anyio.sleep(CONFIG.retry)
        etcd.delete(term.key)
        await until(lambda: not term.is_valid(), timeout=FOUND)
