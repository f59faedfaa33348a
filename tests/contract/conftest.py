"""The subjects: the fake on virtual time, and a real etcd by each of our clients, each on asyncio and on trio."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import pytest

from etcdleader._etcd.api import EtcdApi
from etcdleader.testing import EtcdServer, FakeEtcd
from etcdleader.testing.virtual_time import virtual_backend
from tests.contract.world import ETCDS, LOOPS, Subject, World

_SUBJECTS = [
    pytest.param(Subject(etcd, loop), id=f"{etcd}-{loop}", marks=[] if etcd == "fake" else [pytest.mark.etcd])
    for etcd in ETCDS
    for loop in LOOPS
]


@pytest.fixture(params=_SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.param
    return found


@pytest.fixture
def anyio_backend(subject: Subject) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(subject.loop) if subject.etcd == "fake" else (subject.loop, {})


@pytest.fixture(scope="session")
def server() -> Iterator[EtcdServer]:
    """Return the etcd of the run. `make test-etcds` checks the contract on every listed version."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
async def world(anyio_backend: object, subject: Subject, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if subject.etcd == "fake":
        async with FakeEtcd() as etcd:
            yield World(etcd.client("one"), etcd.client("other"), etcd.compact)
        return
    from etcdleader._etcd.client import new_client
    from etcdleader.etcd3 import etcd3

    users_own = subject.etcd == "client"
    server: EtcdServer = request.getfixturevalue("server")  # not an argument: the fake needs none
    other = new_client(server.config)
    with closing(etcd3.client(*server.endpoints[0].split(":"))) if users_own else nullcontext(server.config) as client:
        api = new_client(client)
        try:
            yield World(api, other, partial(_compact, server))
        finally:
            await other.aclose()
            await api.aclose()


def _compact(server: EtcdServer, revision: int) -> None:
    command = [str(server.etcdctl), "--endpoints", server.endpoints[0], "compaction", str(revision)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.fixture
def api(world: World) -> EtcdApi:
    return world.api


@pytest.fixture
def prefix() -> bytes:
    """Return a prefix that no other test uses. The real etcds serve many tests."""
    return f"contract/{uuid.uuid4().hex}/".encode()
