"""A candidate where no etcd is: at a port that refuses, that is silent, or that has another server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdUnavailableError
from tests.etcd.operators import until

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="no-etcd", lease=60, renew=0.25, retry=0.25)
ENOUGH = 8
AT_MOST_PER_SECOND = 50
"""Failed calls: the pauses between them grow from a sixteenth of `retry`. A rush would be thousands."""
PATIENCE = 60
WEB_PAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[tuple[str, list[SocketStream]]]:
    """Listen as a server that is not etcd: read, answer with these bytes, and close the connection if there are any."""
    connections: list[SocketStream] = []

    async def handle(stream: SocketStream) -> None:
        connections.append(stream)
        async with stream:
            try:
                while True:
                    await stream.receive()
                    if answer:
                        await stream.send(answer)
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield f"127.0.0.1:{port}", connections
        group.cancel_scope.cancel()


async def stand_before(endpoint: str, election_key: str) -> None:
    """Campaign there, and check how long it takes until several calls have failed, once the first one has.

    A rush would make it shorter. A busy machine can only make it longer.
    """
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), CONFIG, election_key)
    errors: list[EtcdLeaderError] = []
    manager.on_error(lambda _, error: errors.append(error))
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await until(lambda: errors)
        begun, before = anyio.current_time(), manager.statistics().etcd_errors
        await until(lambda: manager.statistics().etcd_errors >= before + ENOUGH)
        failed = manager.statistics().etcd_errors - before
        assert anyio.current_time() - begun >= failed / AT_MOST_PER_SECOND
        with anyio.fail_after(PATIENCE):
            await manager.stop()
    assert manager.statistics().terms == 0
    assert all(isinstance(error, EtcdUnavailableError) for error in errors)
    assert len(errors) == len({type(error) for error in errors})  # once per kind and outage


async def test_without_a_listener_a_candidate_retries_at_its_normal_rate(election_key: str) -> None:
    """The system refuses connections at once, so nothing but the pauses of the candidate holds the calls back."""
    await stand_before("127.0.0.1:1", election_key)


@pytest.mark.parametrize("answer", [b"", WEB_PAGE], ids=["silence", "a web server"])
async def test_where_something_else_listens_a_candidate_waits_without_a_rush(election_key: str, answer: bytes) -> None:
    async with listening(answer) as (endpoint, connections):
        await stand_before(endpoint, election_key)
        assert 1 <= len(connections) <= 30
