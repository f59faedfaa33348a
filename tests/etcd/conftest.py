"""What the tests against a real etcd share."""

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
    """One etcd of one member for the whole run. Who kills, freezes or wipes wants one of their own."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def election_key() -> str:
    """An election that nobody else stands in, on whatever etcd."""
    return f"tests/{uuid.uuid4().hex}"


@pytest.fixture
def operator(etcd_server: EtcdServer) -> Iterator[Any]:
    """An etcd3 client with the right to do everything."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    yield client
    client.close()
