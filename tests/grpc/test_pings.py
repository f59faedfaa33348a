"""Pings and what a connection concludes from them, on virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import pytest

from tests.grpc.http2_client import client
from tests.grpc.http2_server import framed
from tests.grpc.interrupts import unprotected_lines
from tests.grpc.virtual import serving_a_pair, virtual_backend

pytestmark = pytest.mark.anyio

INTERVAL = 5.0
pinging = partial(client, ping_interval=INTERVAL, serve=serving_a_pair)


@pytest.fixture(params=["asyncio", "trio"], ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


async def test_a_silent_peer_is_pinged_and_a_dead_one_is_detected() -> None:
    async with pinging() as one:
        await anyio.sleep(3.5 * INTERVAL)
        assert one.server.pings == 3
        assert one.ends == []
        one.server.silent = True
        died = anyio.current_time()
        status = await one.end()
        assert status.code == "UNAVAILABLE"
        assert f"nothing was received for {INTERVAL:g} s after a ping" in status.message
        assert anyio.current_time() - died == pytest.approx(1.5 * INTERVAL, abs=0.1)


async def test_no_ping_is_sent_without_a_stream() -> None:
    """Servers close a connection that does that."""
    async with pinging() as one:
        await anyio.sleep(1.5 * INTERVAL)
        assert one.server.pings == 1
        one.stream.cancel()
        await anyio.sleep(4 * INTERVAL)
        assert one.server.reset == [one.number]
        assert one.server.pings == 1
        assert one.connection.is_open


@pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="virtual-trio")], indirect=True)
@pytest.mark.parametrize("by", ["us", "the server"])
async def test_ctrl_c_on_trio_cannot_strike_in_a_task_of_a_connection(by: str) -> None:
    with unprotected_lines() as lines:
        async with pinging() as one:
            one.stream.send(b"request")
            await one.server.send(one.number, framed(b"response"))
            await one.received(1)
            await anyio.sleep(2.5 * INTERVAL)
            assert one.server.pings == 2
            if by == "the server":
                await one.server.close()
                await one.end()
    assert not lines
