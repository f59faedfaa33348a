"""Values that are larger than etcd accepts: the caller receives the refusal, and nothing is sent again."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager, EtcdRefusedError
from etcdleader.etcd3 import etcd3
from etcdleader.registration import registered
from etcdleader.testing import EtcdServer

pytestmark = [
    pytest.mark.anyio,
    # etcd refuses a request above 1.5 MiB. Its gRPC library refuses one above 2 MiB, with the status of an overload.
    pytest.mark.parametrize("size", [1_600_000, 2_100_000, 3_000_000]),
]

PATIENCE = 30


async def test_a_registration_is_refused(etcd_server: EtcdServer, operator: Any, election_key: str, size: int) -> None:
    with anyio.fail_after(PATIENCE), pytest.raises(EtcdRefusedError, match="large"):
        async with registered(etcd_server.config, election_key, "x" * size):
            raise AssertionError
    assert operator.get(election_key)[0] is None


async def test_an_update_that_is_too_large_leaves_the_earlier_value_and_the_next_one_works(
    etcd_server: EtcdServer, operator: Any, election_key: str, size: int
) -> None:
    with anyio.fail_after(PATIENCE):
        async with registered(etcd_server.config, election_key, "idle") as registration:
            with pytest.raises(EtcdRefusedError, match="large"):
                await registration.update("x" * size)
            assert operator.get(election_key)[0] == b"idle"
            await registration.update("busy")
            assert operator.get(election_key)[0] == b"busy"
            assert registration.is_valid()


async def test_a_term_continues_without_the_refused_key(
    etcd_server: EtcdServer, operator: Any, election_key: str, size: int
) -> None:
    key, value = f"{election_key}-data", "x" * size
    with anyio.fail_after(PATIENCE):
        async with EtcdLeaderManager(etcd_server.config, Config(enabled=True), election_key) as manager:
            term = await manager.wait_elected()
            with pytest.raises(EtcdRefusedError, match="large"):
                await term.attach(key, value)
            with pytest.raises(EtcdRefusedError, match="large"):
                await term.transaction([etcd3.transactions.Put(key, value)])
            assert operator.get(key)[0] is None
            await term.attach(key, "small")
            assert operator.get(key)[0] == b"small"
            assert term.is_valid()
