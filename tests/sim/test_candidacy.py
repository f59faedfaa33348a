"""Check what one candidacy leaves behind, and on which leases it must not win."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import EtcdUnavailableError
from etcdleader.etcd3 import etcd3
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, Recorder, leading, make, until

pytestmark = pytest.mark.anyio


async def test_no_term_begins_on_an_expired_lease_even_if_it_was_not_checked_yet(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The machine resumes from suspend, and the first event received is that the candidate is first in the queue."""
    etcd.put(f"{ELECTION}/by-hand", "the leader")
    manager = make(etcd, clock)
    recorder = Recorder(manager)
    async with manager:
        await until(lambda: len(etcd.keys()) == 2)
        old = list(etcd.keys())[1].decode()
        await anyio.sleep(1)
        clock.advance(CONFIG.lease)
        etcd.delete(f"{ELECTION}/by-hand")
        await until(lambda: recorder.terms)
    assert old not in {term.key for term in recorder.terms}


async def test_a_grant_whose_response_was_lost_is_found_and_revoked(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The start of its TTL is unknown, so the lease is not used."""
    client = etcd.client()
    client.lose_answer("lease_grant")
    manager = make(client, clock)
    async with manager:
        with anyio.fail_after(CONFIG.retry * 2):
            term = await manager.wait_elected()
        assert list(etcd.leases()) == [term.lease_id]


async def test_a_foreign_lease_of_the_same_id_is_not_revoked(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are drawn at random. A lease of another client must not be revoked."""
    ids = iter([77, 78])
    monkeypatch.setattr("random.SystemRandom.randrange", lambda self, *bounds: next(ids))
    etcd.grant(77, 60)
    manager = make(etcd, clock)
    async with manager:
        assert (await manager.wait_elected()).lease_id == 78
        assert list(etcd.leases()) == [77, 78]


async def test_a_key_taken_off_its_lease_guards_no_write_even_before_its_leader_receives_the_event(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The key keeps its create_revision, so only the lease differs."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        await anyio.sleep(0.1)
        client.stall_watches()
        put = etcd3.transactions.Put("data", "x")
        assert (await term.transaction([put]))[0]
        etcd.put(term.key, manager.identity)
        assert term.is_valid()
        assert not (await term.transaction([put]))[0]
        client.resume_watches()


async def test_a_join_that_was_applied_though_refused_is_found_while_writes_are_refused(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """etcd 3.5 answers "no space" to the very put that it applied. Only a read shows the key."""
    client = etcd.client()
    client.fail("txn", EtcdUnavailableError("etcdserver: mvcc: database space exceeded"), applied=True)

    def fill(call: Call) -> None:
        if call.kind == "txn" and call.stage == "after":
            etcd.no_space = True

    etcd.hooks.append(fill)
    manager = make(client, clock)
    async with manager:
        with anyio.fail_after(5):
            term = await manager.wait_elected()
        assert list(etcd.keys()) == [term.key.encode()]
