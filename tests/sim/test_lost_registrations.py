"""A registered key that is lost is put again, and moves when etcd elects another leader."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from etcdleader import EtcdUnavailableError
from etcdleader.registration import Registration
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.registering import KEY, MARGIN, RENEW, RETRY, TTL, enter, lease_of, value_of
from tests.sim.world import until

pytestmark = pytest.mark.anyio


def revoke(etcd: FakeEtcd, registration: Registration) -> None:
    etcd.revoke(registration.lease_id)


def delete(etcd: FakeEtcd, registration: Registration) -> None:
    etcd.delete(registration.key)


def overwrite(etcd: FakeEtcd, registration: Registration) -> None:
    etcd.put(registration.key, "theirs", ignore_lease=True)


@pytest.mark.parametrize("lose", [revoke, delete, overwrite], ids=["revoked", "deleted", "overwritten"])
@pytest.mark.parametrize("without_events", [False, True], ids=["watched", "without events"])
async def test_a_lost_key_is_put_again_with_the_newest_value(
    etcd: FakeEtcd,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[FakeEtcd, Registration], None],
    without_events: bool,
) -> None:
    client = etcd.client()
    async with enter(client, clock) as registration:
        await registration.update("busy")
        before = registration.lease_id
        if without_events:
            client.stall_watches()
        lose(etcd, registration)
        await until(lambda: registration.lease_id not in (0, before), timeout=RENEW + 1 if without_events else RETRY)
        assert registration.is_valid()
        assert (value_of(etcd), lease_of(etcd)) == ("busy", registration.lease_id)
        assert list(etcd.leases()) == [registration.lease_id]
        assert "was lost" in caplog.text
    assert not etcd.keys()


async def test_a_loss_is_known_at_once_and_ends_is_valid(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with enter(client, clock) as registration:
        etcd.delete(KEY)
        await until(lambda: not registration.is_valid(), timeout=0.1)
        assert registration.lease_id == 0


async def test_a_deletion_before_the_watch_was_created_is_noticed(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A watch shows nothing of what came before it: a read does."""

    def remove(call: Call) -> None:
        if call.kind == "watch" and KEY.encode() in etcd.keys():
            etcd.hooks.clear()
            etcd.delete(KEY)

    etcd.hooks.append(remove)
    async with enter(etcd, clock) as registration:
        await until(lambda: not etcd.hooks, timeout=1)
        await until(lambda: value_of(etcd) == "idle" and registration.is_valid(), timeout=1)


async def test_a_registration_is_not_valid_past_its_deadline(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """By the clock alone: no event and no response says so."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        await until(lambda: client.calls["lease_keep_alive"] == 2)
        await anyio.sleep(0.01)
        client.partition()
        renewed_at = clock()
        await anyio.sleep(TTL - MARGIN - 0.1)
        assert registration.is_valid()
        clock.advance(0.2)
        assert not registration.is_valid()
        assert clock() < renewed_at + TTL
        client.heal()
        await until(registration.is_valid, timeout=3 * RETRY)
        assert lease_of(etcd) == registration.lease_id


async def test_a_cut_off_key_expires_and_is_put_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with enter(client, clock) as registration:
        client.partition()
        await until(lambda: value_of(etcd) is None, timeout=2 * TTL)
        assert not registration.is_valid()
        client.heal()
        await until(registration.is_valid, timeout=3 * RETRY)
        assert lease_of(etcd) == registration.lease_id


async def test_the_key_on_an_earlier_lease_of_this_process_is_replaced(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """etcd without a leader expires no lease, and then extends all: the key still belongs to this registration."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        before = registration.lease_id
        client.partition()
        etcd.lose_leader()
        await anyio.sleep(2 * TTL)
        assert not registration.is_valid()
        etcd.change_leader()
        client.heal()
        assert lease_of(etcd) == before
        await until(registration.is_valid, timeout=4 * RETRY)
        assert lease_of(etcd) == registration.lease_id != before
        assert "another client" not in caplog.text


@pytest.mark.parametrize("lease", [0, 77])
async def test_a_key_that_another_client_took_is_left_and_put_again_when_it_is_gone(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture, lease: int
) -> None:
    etcd.grant(77, 6000)
    async with enter(etcd, clock) as registration:
        etcd.put(KEY, "theirs", lease=lease)
        await until(lambda: not registration.is_valid(), timeout=1)
        await anyio.sleep(5 * TTL)
        assert (value_of(etcd), lease_of(etcd)) == ("theirs", lease)
        assert not registration.is_valid()
        assert caplog.text.count("another client has put the key") == 1
        calls = etcd.calls.total()
        await anyio.sleep(10 * RETRY)
        assert etcd.calls.total() - calls < 25, "one read in each pause, and nothing else"
        with pytest.raises(EtcdUnavailableError, match="lost at the moment"):
            await registration.update("busy")
        etcd.delete(KEY)
        await until(registration.is_valid, timeout=2 * RETRY)
        assert value_of(etcd) == "busy"
    assert not etcd.keys()


async def test_a_restored_etcd_gets_no_key_before_its_revision_has_passed_the_known_one(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = etcd.snapshot()
    async with enter(etcd, clock) as registration:
        for number in range(50):
            etcd.put("data", str(number))
        await anyio.sleep(2 * RENEW)
        etcd.restore(snapshot)
        await until(lambda: not registration.is_valid(), timeout=2 * RENEW)
        await anyio.sleep(5 * TTL)
        assert not registration.is_valid()
        assert "was lost (REGRESSED)" in caplog.text
        assert caplog.text.count("wiped or restored") == 1
        assert not etcd.keys(), "no watcher receives a put and then a DELETE"
        for number in range(60):
            etcd.put("data", str(number))
        await until(registration.is_valid, timeout=2 * RETRY)
        assert value_of(etcd) == "idle"
    assert KEY.encode() not in etcd.keys()


async def test_a_key_that_is_deleted_again_and_again_is_not_put_faster_and_faster(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    puts = 0
    async with enter(etcd, clock):
        for _ in range(6000):
            puts += etcd.delete(KEY)
            await anyio.sleep(0.01)
    assert 20 < puts < 60


# The move (rule 8)


async def test_the_key_moves_when_etcd_elects_another_leader(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with enter(etcd, clock) as registration:
        created = etcd.keys()[KEY.encode()].create_revision
        for _ in range(3):
            before = registration.lease_id
            etcd.change_leader()
            await until(lambda: registration.lease_id != before, timeout=RENEW + TTL / 2)  # noqa: B023
            assert lease_of(etcd) == registration.lease_id
            assert registration.is_valid()
        await anyio.sleep(3 * TTL)
        assert registration.is_valid()
        assert etcd.keys()[KEY.encode()].create_revision == created
        assert list(etcd.leases()) == [registration.lease_id]


async def test_a_renewal_in_a_later_raft_term_does_not_make_it_valid(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Without space no key can move. It stays in etcd, and is valid again when it has moved."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        etcd.change_leader()
        client.fail("lease_grant", EtcdUnavailableError("no space"), times=10_000)
        await until(lambda: not registration.is_valid(), timeout=TTL)
        await anyio.sleep(3 * TTL)
        assert value_of(etcd) == "idle"
        assert not registration.is_valid()
        client.clear_faults()
        await until(registration.is_valid, timeout=2 * RETRY)
