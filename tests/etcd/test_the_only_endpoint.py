"""The only endpoint is not left while it sends: all that it sends is noticed as it arrives."""

from __future__ import annotations

import logging
import math

import anyio
import pytest

from etcdleader import EtcdLeaderError
from etcdleader._etcd.api import Range
from etcdleader._etcd.client import new_client
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio


async def test_responses_and_stream_messages_count_as_activity_and_errors_do_not(
    etcd_server: EtcdServer, election_key: str
) -> None:
    api = new_client(etcd_server.config)
    endpoint = api._open()
    assert endpoint.last_received_at == -math.inf

    def heard() -> bool:
        """Since it was asked last."""
        found, endpoint.last_received_at = endpoint.last_received_at, -math.inf
        return found > -math.inf

    with pytest.raises(EtcdLeaderError):
        await api.lease_revoke(1, timeout=30)  # there is none
    assert not heard()
    await api.range(Range(election_key.encode()), timeout=30)
    assert heard()
    created = anyio.Event()
    api.watch(election_key.encode(), sink=lambda message: created.set(), timeout=30)
    with anyio.fail_after(30):
        await created.wait()
    assert heard()
    await api.lease_grant(60, 4711, timeout=30)
    heard()
    assert (await api.lease_keep_alive([4711], timeout=30))[4711].ttl > 0
    assert heard()
    await api.lease_revoke(4711, timeout=30)
    await api.aclose()


async def test_a_late_call_costs_no_watch_while_the_only_endpoint_sends_data(
    etcd_server: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = new_client(etcd_server.config)
    broken: list[object] = []
    created = anyio.Event()

    def sink(message: object) -> None:
        created.set()
        broken.append(message)

    api.watch(election_key.encode(), sink=sink, timeout=30)
    with anyio.fail_after(30):
        await created.wait()
    endpoint = api._open()
    endpoint.last_received_at += 3600  # it goes on talking, however slow this machine is
    broken.clear()
    with caplog.at_level(logging.WARNING, logger="etcdleader"):
        api.report_endpoint_failure(api.endpoint_number)
        await api.range(Range(election_key.encode()), timeout=30)
    assert api._open() is endpoint
    assert broken == []
    await api.aclose()
