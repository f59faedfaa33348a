"""The client decides how to send its reads: it detects the version of the member in use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import pytest

from etcdleader import EtcdRefusedError, EtcdUnavailableError
from etcdleader._etcd.api import EMPTY_TXN, Range, Txn
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient, FakeMember
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend

pytestmark = pytest.mark.anyio

READS = [Range(b"a"), Range(b"b")]
LEARNED = 6.0
"""Seconds after the first response by which the version is known."""


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
async def etcd(anyio_backend: object) -> AsyncIterator[FakeEtcd]:
    async with FakeEtcd(members=2) as etcd:
        yield etcd


@pytest.fixture
def through_the_log(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return for each transaction that reached a member, in order, whether it went through the log."""
    seen: list[bool] = []
    handle = FakeMember.handle

    async def look(member: FakeMember, request: Any) -> Any:
        if isinstance(request, Txn):
            seen.append(EMPTY_TXN in request.failure)
        return await handle(member, request)

    monkeypatch.setattr(FakeMember, "handle", look)
    return seen


async def read_before_and_after(client: FakeClient) -> None:
    """Read once before the version can be known, and once when it is."""
    await client.txn((), READS, timeout=5)
    await anyio.sleep(LEARNED)
    await client.txn((), READS, timeout=5)


async def test_reads_skip_the_raft_log_once_the_members_version_is_known_to_survive_cancellation(
    etcd: FakeEtcd, through_the_log: list[bool]
) -> None:
    """No other code requests the version: no manager, no log record."""
    client = etcd.client()
    await read_before_and_after(client)
    assert through_the_log == [True, False]
    assert client.calls["member_status"] == 1


async def test_reads_go_through_the_raft_log_of_a_member_that_a_cancelled_read_crashes(
    etcd: FakeEtcd, through_the_log: list[bool]
) -> None:
    etcd.version = "3.5.1"
    client = etcd.client()
    await read_before_and_after(client)
    assert through_the_log == [True, True]


async def test_the_detected_version_of_one_member_does_not_apply_to_the_next(
    etcd: FakeEtcd, through_the_log: list[bool]
) -> None:
    client = etcd.client()
    await client.txn((), READS, timeout=5)
    await anyio.sleep(LEARNED)
    client.report_endpoint_failure(client.endpoint_number)
    await client.txn((), READS, timeout=5)
    await anyio.sleep(60 + LEARNED)
    await client.txn((), READS, timeout=5)
    assert through_the_log == [True, True, False]
    assert client.calls["member_status"] == 2


async def test_a_refused_status_proves_the_member_new_enough_and_is_not_requested_again(
    etcd: FakeEtcd, through_the_log: list[bool]
) -> None:
    """Only servers that survive cancelled reads require a permission there."""
    client = etcd.client()
    client.refuse("member_status", times=100)
    await read_before_and_after(client)
    await anyio.sleep(600)
    assert through_the_log == [True, False]
    assert client.calls["member_status"] == 1


async def test_a_status_that_a_proxy_refuses_proves_nothing(etcd: FakeEtcd, through_the_log: list[bool]) -> None:
    client = etcd.client()
    client.fail("member_status", EtcdRefusedError("PERMISSION_DENIED: RBAC: access denied"), times=100)
    await read_before_and_after(client)
    assert through_the_log == [True, True]


async def test_a_listener_that_raises_ends_nothing_and_the_next_member_is_still_tried(
    etcd: FakeEtcd, through_the_log: list[bool]
) -> None:
    """It writes a log record. An exception from the user's own filter or handler must not reach the loop."""

    def fail(version: str) -> None:
        raise RuntimeError(version)

    client = etcd.client()
    client.on_version(fail)
    await client.txn((), READS, timeout=5)
    await anyio.sleep(10 * LEARNED)
    client.report_endpoint_failure(client.endpoint_number)
    await client.txn((), READS, timeout=5)
    await anyio.sleep(60 + LEARNED)
    await client.txn((), READS, timeout=5)
    assert through_the_log == [True, True, False]
    assert client.calls["member_status"] == 2, "once for each member"


async def test_a_response_after_the_end_starts_nothing(etcd: FakeEtcd) -> None:
    client = etcd.client()
    client.delay("range", answer=1)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: client.range(READS[0], timeout=5))
        await anyio.sleep(0.5)
        client.report_endpoint_failure(client.endpoint_number)
        await client.aclose()
    await anyio.sleep(LEARNED)
    assert client.calls["member_status"] == 0


async def test_a_status_that_fails_is_requested_again(etcd: FakeEtcd, through_the_log: list[bool]) -> None:
    client = etcd.client()
    client.fail("member_status", EtcdUnavailableError("no answer"))
    await read_before_and_after(client)
    await anyio.sleep(LEARNED)
    await client.txn((), READS, timeout=5)
    assert through_the_log == [True, True, False]


async def test_the_version_is_reported_once_to_the_first_listener_and_again_when_it_changes(etcd: FakeEtcd) -> None:
    client, first, second = etcd.client(), list[str](), list[str]()
    client.on_version(first.append)
    client.on_version(second.append)
    await client.range(READS[0], timeout=5)
    await anyio.sleep(LEARNED)
    assert (first, second) == (["3.7.3"], [])
    etcd.version = "3.7.4"
    client.report_endpoint_failure(client.endpoint_number)
    await client.range(READS[0], timeout=5)
    await anyio.sleep(60 + LEARNED)
    assert first == ["3.7.3", "3.7.4"]
