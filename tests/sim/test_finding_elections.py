"""Find elections, and anomalous keys, by the names and leases of the keys."""

from __future__ import annotations

import pytest

from etcdleader._election.admin import Candidate, find_elections, read_queue
from etcdleader._lease.shared_connection import acquire_connection
from etcdleader.registration import registered
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import moved
from tests.sim.world import leading

pytestmark = pytest.mark.anyio


async def found(etcd: FakeEtcd, prefix: str = "") -> list[str]:
    client = etcd.client()
    async with acquire_connection(id(client), lambda: client, owned=False) as connection:
        return await find_elections(connection, prefix, timeout=1)


async def queue_of(etcd: FakeEtcd, election: str) -> tuple[Candidate, ...]:
    client = etcd.client()
    async with acquire_connection(id(client), lambda: client, owned=False) as connection:
        return (await read_queue(connection, election, timeout=1)).candidates


def candidate(etcd: FakeEtcd, election: str, lease_id: int) -> None:
    etcd.grant(lease_id, 60)
    etcd.put(f"{election}/{lease_id:x}", "somebody", lease=lease_id)


async def test_an_election_is_found_by_a_key_that_is_named_after_its_lease(etcd: FakeEtcd) -> None:
    """A keys-only response does not show the lease."""
    candidate(etcd, "jobs", 0x1F)
    candidate(etcd, "jobs", 0x2F)
    candidate(etcd, "reports/nightly", 0x3F)
    assert await found(etcd) == ["jobs", "reports/nightly"]
    assert await found(etcd, "rep") == ["reports/nightly"]


async def test_a_key_that_only_has_the_name_of_a_candidate_is_none(etcd: FakeEtcd) -> None:
    etcd.grant(0x4F, 60)
    etcd.put("settings/4f", "no lease")
    etcd.put("cache/beef", "the lease of another", lease=0x4F)
    etcd.put("4f", "no election", lease=0x4F)
    etcd.put("names/somebody", "no number", lease=0x4F)
    etcd.put("padded/004f", "another spelling", lease=0x4F)
    assert await found(etcd) == []


async def test_a_registration_with_a_name_in_hex_is_no_election(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its key is on a lease, and has been put again: by an update, or by a move."""
    async with registered(etcd, "workers/deadbeef", "idle", clock=clock) as registration:
        await registration.update("busy")
        assert await found(etcd) == []


async def test_thousands_are_found_in_pages_and_in_transactions_of_an_allowed_size(etcd: FakeEtcd) -> None:
    for number in range(1, 2501):
        candidate(etcd, f"e{number:04}", number)
    assert await found(etcd) == [f"e{number:04}" for number in range(1, 2501)]


async def test_a_key_that_has_moved_to_another_lease_is_no_anomaly_and_its_election_is_found(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """An operator who took it for a stray key would delete a leader's key."""
    async with leading(etcd, clock) as (_, term):
        election, _, name = term.key.rpartition("/")
        await moved(etcd, term)
        (leader,) = await queue_of(etcd, election)
        assert (leader.token, leader.lease_id) == (term.token, term.lease_id)
        assert name != f"{leader.lease_id:x}"
        assert leader.anomalies == ()
        assert await found(etcd) == [election]


@pytest.mark.parametrize("name", ["somebody", "004f", "4F", "12345678901234567"])
async def test_a_key_that_was_put_again_is_an_anomaly_if_its_name_cannot_be_a_lease_id(
    etcd: FakeEtcd, name: str
) -> None:
    etcd.grant(0x5F, 60)
    etcd.put(f"jobs/{name}", "by hand", lease=0x5F)
    etcd.put(f"jobs/{name}", "by hand again", lease=0x5F)
    (found_key,) = await queue_of(etcd, "jobs")
    assert "is not named after its lease" in found_key.anomalies[0]
    assert await found(etcd) == []


async def test_a_key_with_the_name_of_another_lease_is_an_anomaly_until_it_is_put_again(etcd: FakeEtcd) -> None:
    etcd.grant(0x5F, 60)
    etcd.put("jobs/beef", "by hand", lease=0x5F)
    (found_key,) = await queue_of(etcd, "jobs")
    assert "is not named after its lease" in found_key.anomalies[0]
