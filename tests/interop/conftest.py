"""One etcd, and one process of each library, for all tests of this folder."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etcdleader.testing import EtcdServer
from tests.interop.build import MissingToolError
from tests.interop.libraries import LIBRARIES, Libraries, Library
from tests.interop.queue_reader import QueueReader


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.etcd)


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture(scope="module")
def queues(etcd_server: EtcdServer) -> Iterator[QueueReader]:
    reader = QueueReader(etcd_server.endpoints[0])
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def libraries(etcd_server: EtcdServer) -> Iterator[Libraries]:
    libraries = Libraries(etcd_server.endpoints[0])
    yield libraries
    libraries.close()


@pytest.fixture
def library(libraries: Libraries) -> Iterator[Callable[[str], Library]]:
    """Return a library by its name. Where it cannot run, the test is skipped, and the summary says why."""

    def find(name: str) -> Library:
        try:
            return libraries[name]
        except MissingToolError as error:
            pytest.skip(str(error))

    yield find
    libraries.end_test()


@pytest.fixture
def present(libraries: Libraries) -> Iterator[list[Library]]:
    """Return the libraries that run on this machine: ours and what else there is. Other tests say what is missing."""
    found = []
    for name in LIBRARIES:
        with contextlib.suppress(MissingToolError):
            found.append(libraries[name])
    yield found
    libraries.end_test()


@pytest.fixture
def election() -> str:
    """An election of one test, whose name takes more than ASCII in every language."""
    return f"tests/{uuid.uuid4().hex}/größe"
