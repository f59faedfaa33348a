"""Which elections there are, told from the names and the leases of their keys."""

from __future__ import annotations

import pytest

from etcdleader._election.admin import find_elections
from etcdleader._lease.connection import connect
from etcdleader.testing import FakeEtcd

pytestmark = pytest.mark.anyio


async def found(etcd: FakeEtcd, prefix: str = "") -> list[str]:
    client = etcd.client()
    async with connect(id(client), lambda: client, owned=False) as connection:
        return await find_elections(connection, prefix, timeout=1)


def candidate(etcd: FakeEtcd, election: str, lease_id: int) -> None:
    etcd.grant(lease_id, 60)
    etcd.put(f"{election}/{lease_id:x}", "somebody", lease=lease_id)


async def test_an_election_is_found_by_a_key_that_is_named_after_its_lease(etcd: FakeEtcd) -> None:
    """An answer with keys only does not show the lease."""
    candidate(etcd, "jobs", 0x1F)
    candidate(etcd, "jobs", 0x2F)
    candidate(etcd, "reports/nightly", 0x3F)
    assert await found(etcd) == ["jobs", "reports/nightly"]
    assert await found(etcd, "rep") == ["reports/nightly"]


async def test_what_is_only_named_like_a_candidate_is_none(etcd: FakeEtcd) -> None:
    etcd.grant(0x4F, 60)
    etcd.put("settings/4f", "no lease")
    etcd.put("cache/beef", "the lease of another", lease=0x4F)
    etcd.put("4f", "no election", lease=0x4F)
    etcd.put("names/somebody", "no number", lease=0x4F)
    etcd.put("padded/004f", "another spelling", lease=0x4F)
    assert await found(etcd) == []


async def test_thousands_are_found_page_by_page_and_in_transactions_of_a_size_that_etcd_takes(etcd: FakeEtcd) -> None:
    for number in range(1, 2501):
        candidate(etcd, f"e{number:04}", number)
    assert await found(etcd) == [f"e{number:04}" for number in range(1, 2501)]
