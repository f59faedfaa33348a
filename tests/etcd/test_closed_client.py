"""A user's own client is closed beside a manager, and so is one of our connections."""

from __future__ import annotations

import gc

import anyio
import pytest

from etcdleader import Config, EtcdLeaderError, EtcdLeaderManager, EtcdUnavailableError, LossReason
from etcdleader._etcd.client import new_client
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="closed", lease=4, renew=0.5, retry=0.5, margin=1)


async def test_a_client_that_is_closed_while_we_lead_ends_the_term_and_not_the_program(
    etcd_server: EtcdServer, election_key: str
) -> None:
    """gRPC says so by a ValueError, in the tasks of the library: it must come out as what it means."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    manager = EtcdLeaderManager(client, CONFIG, election_key)
    errors: list[EtcdLeaderError] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with manager:
        with anyio.fail_after(60):
            term = await manager.wait_elected()
            client.close()
            while term.loss_reason is None:
                await anyio.sleep(0.02)
            assert term.loss_reason is LossReason.EXPIRED
            while not any("closed" in str(error) for error in errors):
                await anyio.sleep(0.02)
    assert {type(error) for error in errors} == {EtcdUnavailableError}


async def test_a_client_that_was_closed_before_is_an_etcd_that_does_not_answer(
    etcd_server: EtcdServer, election_key: str
) -> None:
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    client.close()
    manager = EtcdLeaderManager(client, CONFIG, election_key)
    with pytest.raises(EtcdUnavailableError, match="closed"):
        await manager.leader()
    with anyio.move_on_after(1):
        await manager.campaign()
    assert manager.statistics().etcd_errors > 0


async def test_a_connection_that_is_closed_leaves_no_stream_of_grpcs_to_the_end_of_the_interpreter(
    etcd_server: EtcdServer, election_key: str
) -> None:
    """Its finalizer would wait there for a lock that a thread which runs no more may hold: 2 of 360 programs hung."""
    gc.collect()  # what other tests have left
    gc.disable()  # the end comes before the next collection, too
    try:
        host, _, port = etcd_server.endpoints[0].rpartition(":")
        client = etcd3.client(host, int(port))
        api = new_client(client)
        created = anyio.Event()
        api.watch(election_key.encode(), sink=lambda _: created.set(), timeout=30)
        await api.lease_keep_alive([1], timeout=30)
        with anyio.fail_after(30):
            await created.wait()
        assert streams_alive() == 2
        await api.aclose()
        assert streams_alive() == 0
        client.close()
    finally:
        gc.enable()


def streams_alive() -> int:
    return sum(type(thing).__name__ == "_MultiThreadedRendezvous" for thing in gc.get_objects())
