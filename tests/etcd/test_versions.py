"""The detection of etcd's version, and its effects."""

from __future__ import annotations

import json
import logging
from urllib.request import urlopen

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader._etcd import version_monitor
from etcdleader._etcd.api import Range
from etcdleader._etcd.client import EtcdClient, new_client
from etcdleader._etcd.etcd3_messages import etcdrpc
from etcdleader._etcd.messages import StatusRequest
from etcdleader._etcd.rpcs import STATUS, Rpc
from etcdleader._etcd.versions import known_defects
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="versions", lease=20, renew=0.5, retry=5)
READS = 5


async def test_a_version_with_known_defects_is_warned_of_once_per_shared_connection(
    etcd_server: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etcdleader._etcd.version_monitor._ATTEMPT_SECONDS", 0.05)
    monkeypatch.setattr("etcdleader._etcd.version_monitor._CHECK_SECONDS", 0.05)
    first, second = (EtcdLeaderManager(etcd_server.config, CONFIG, f"{election_key}-{name}") for name in "ab")
    defects = known_defects(etcd_server.version)
    with caplog.at_level(logging.WARNING, logger="etcdleader"):
        async with first, second:
            with anyio.fail_after(60):
                await first.wait_elected()
                await second.wait_elected()
                for _ in range(4):  # renewals, so that there was time to ask again and again
                    await first.extend()
                    await anyio.sleep(0.1)
    warnings = ("known defects", "end of life")
    reported = [record.message for record in caplog.records if any(text in record.message for text in warnings)]
    assert reported == ([defects] if defects else [])


@pytest.mark.parametrize("survives", [True, False])
async def test_reads_go_through_the_log_of_an_etcd_that_others_would_end(
    monkeypatch: pytest.MonkeyPatch, survives: bool
) -> None:
    """And of one that is known to survive them, they do not."""
    monkeypatch.setattr(version_monitor, "survives_cancelled_reads", lambda version: survives)
    async with EtcdServer() as server:  # a separate one: no other test may write
        endpoint = server.endpoints[0]
        api = new_client(EtcdConfig(endpoints=[endpoint, endpoint.replace("127.0.0.1", "localhost")]))
        await version_decided(endpoint)
        assert await entries(api) == READS  # nothing is known yet
        await api.member_status(timeout=30)
        assert await entries(api) == (0 if survives else READS)
        api.report_endpoint_failure(api.endpoint_number)
        assert await entries(api) == READS  # nor of another member
        await api.aclose()


async def version_decided(endpoint: str) -> None:
    """Wait until the cluster has its version. A new one adds an entry for it to the log."""
    while True:
        with urlopen(f"http://{endpoint}/version", timeout=30) as answer:  # noqa: ASYNC210 - nothing else runs here
            if json.load(answer)["etcdcluster"] != "not_decided":
                return
        await anyio.sleep(0.01)


async def entries(api: EtcdClient) -> int:
    """Return the number of entries that some reads add to etcd's log."""
    before = await raft_index(api)
    for _ in range(READS):
        await api.txn((), [Range(b"a"), Range(b"b")], timeout=30)
    return await raft_index(api) - before


async def raft_index(api: EtcdClient) -> int:
    endpoint = api._open()
    index = Rpc(STATUS.name, STATUS.path, STATUS.encode, lambda data: etcdrpc.StatusResponse.FromString(data).raftIndex)
    return int(await endpoint.call(index, StatusRequest(), (), 30))
