"""A client that the user has made: what is said of its login."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="given", lease=60, renew=20, retry=5)


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdServer]:
    """A server with authentication, where root has a password."""
    with EtcdServer(extra_args=["--bcrypt-cost=4"]) as server:
        for arguments in (["user", "add", "root:root"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            subprocess.run(
                [str(server.etcdctl), "--endpoints", server.endpoints[0], *arguments],
                check=True,
                capture_output=True,
                timeout=30,
            )
        yield server


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "etcd3 client that logged in" in record.message]


async def test_that_the_token_of_a_given_client_ends_is_warned_of_once(
    guarded: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """etcd3 logs in when the client is made, and never again."""
    host, _, port = guarded.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port), user="root", password="root")
    try:
        manager = EtcdLeaderManager(client, CONFIG, election_key)
        for _ in range(2):
            async with manager:
                with anyio.fail_after(30):
                    await manager.wait_elected()
        (warning,) = warnings(caplog)
        assert "EtcdConfig" in warning
        assert "root" not in warning
    finally:
        client.close()


async def test_no_warning_is_logged_for_a_client_without_a_user(
    etcd_server: EtcdServer, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    try:
        with caplog.at_level(logging.INFO):
            async with EtcdLeaderManager(client, CONFIG, election_key) as manager:
                with anyio.fail_after(30):
                    await manager.wait_elected()
        assert not warnings(caplog)
    finally:
        client.close()
