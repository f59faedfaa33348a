"""The health that load balancers and orchestrators receive, with a real etcd behind it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from etcdleader import Config, EtcdLeaderManager
from etcdleader.health import HealthServer, serve
from etcdleader.prometheus import PrometheusMetrics
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="served", lease=6, renew=1, retry=0.5)


def ask(server: HealthServer, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def until_status(server: HealthServer, path: str, status: int) -> Any:
    with anyio.fail_after(60):
        while (got := await anyio.to_thread.run_sync(ask, server, path))[0] != status:
            await anyio.sleep(0.05)
    return json.loads(got[1])


@pytest.fixture
def etcd() -> Iterator[EtcdServer]:
    """One that may be stopped."""
    with EtcdServer() as server:
        yield server


async def test_the_leader_endpoint_and_the_metrics_follow_leadership(
    etcd_server: EtcdServer, election_key: str
) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    first, second = (
        EtcdLeaderManager(etcd_server.config, CONFIG, election_key, metrics=metrics if index == 0 else None)
        for index in range(2)
    )
    with serve(first, "127.0.0.1", 0, registry=registry) as one, serve(second, "127.0.0.1", 0) as other:
        async with first:
            term = await first.wait_elected()
            await until_status(one, "/leader", 200)
            async with second:
                await until_status(other, "/readyz", 200)
                assert ask(other, "/leader")[0] == 503
                await first.resign()
                body = await until_status(other, "/leader", 200)
                assert body[election_key]["state"] == "leading"
                assert ask(one, "/leader")[0] == 503
                assert ask(one, "/livez")[0] == 200
        status, text = ask(one, "/metrics")
    assert status == 200
    samples = {
        (sample.name, sample.labels.get("reason")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.labels["election"] == election_key
    }
    assert samples["etcdleader_losses_total", "resigned"] == 1
    assert samples["etcdleader_is_leader", None] == 0
    assert term.token > 0


async def test_without_etcd_a_leader_stays_leader_until_its_lease_ends_and_all_processes_stay_alive(
    etcd: EtcdServer, election_key: str
) -> None:
    leader = EtcdLeaderManager(etcd.config, CONFIG, election_key)
    standby = EtcdLeaderManager(etcd.config, CONFIG, election_key)
    with serve(leader, "127.0.0.1", 0) as one, serve(standby, "127.0.0.1", 0) as other:
        async with leader:
            await leader.wait_elected()
            async with standby:
                await until_status(other, "/readyz", 200)
                await anyio.to_thread.run_sync(etcd.members[0].kill)
                await until_status(other, "/readyz", 503)
                body = await until_status(one, "/leader", 503)
                assert body[election_key]["state"] == "standby"
                assert [ask(server, "/livez")[0] for server in (one, other)] == [200, 200]
                await anyio.to_thread.run_sync(etcd.members[0].restart)
                with anyio.fail_after(60):
                    while not (leader.is_leader() or standby.is_leader()):
                        await anyio.sleep(0.05)
                back = one if leader.is_leader() else other
                await until_status(back, "/leader", 200)
                await until_status(other if back is one else one, "/readyz", 200)
