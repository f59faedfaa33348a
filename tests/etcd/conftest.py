"""Fixtures of the tests against a real etcd."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `-m "not etcd"` leaves them all out."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.etcd)


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """One etcd of one member for the whole run. A test that kills, freezes or wipes an etcd starts a separate one."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def election_key() -> str:
    """An election that no other test uses, on any etcd."""
    return f"tests/{uuid.uuid4().hex}"


@pytest.fixture
def operator(etcd_server: EtcdServer) -> Iterator[Any]:
    """An etcd3 client with the right to do everything."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    yield client
    client.close()
