"""Attached keys: etcd deletes them with the term's lease, and they follow when the term moves."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import EtcdRefusedError, EtcdUnavailableError, LeadershipLostError
from etcdleader._etcd.api import Put, Txn
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import moved
from tests.sim.world import CONFIG, ELECTION, Recorder, leading, make, until

pytestmark = pytest.mark.anyio


def lease_of(etcd: FakeEtcd, key: str) -> int | None:
    kv = etcd.keys().get(key.encode())
    return None if kv is None else kv.lease


def followers(call: Call) -> list[bytes]:
    """Return the attached keys that a transaction moves."""
    if call.kind != "txn":
        return []
    inner = [one for one in call.arguments[1] if isinstance(one, Txn)]
    return [put.key for one in inner for put in one.success if isinstance(put, Put) and put.ignore_value]


async def test_an_attached_key_is_deleted_with_the_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        await term.attach("endpoint", "http://10.0.0.1")
        assert lease_of(etcd, "endpoint") == term.lease_id
        await term.attach("endpoint", b"http://10.0.0.2")
        assert etcd.keys()[b"endpoint"].value == b"http://10.0.0.2"
    assert not etcd.keys()


async def test_attached_keys_follow_to_the_new_lease(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):
        names = [f"data/{number}" for number in range(100)]
        for name in names:
            await term.attach(name, name)
        for _ in range(3):
            before = await moved(etcd, term)
            await until(lambda: {lease_of(etcd, name) for name in names} == {term.lease_id}, timeout=1)
            assert before != term.lease_id
        await anyio.sleep(2 * CONFIG.lease)
        assert [etcd.keys()[name.encode()].value.decode() for name in names] == names
        assert list(etcd.leases()) == [term.lease_id]
    assert not etcd.keys()


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_an_attached_key_whose_move_has_no_response_still_follows(
    etcd: FakeEtcd, clock: VirtualClock, lost: str
) -> None:
    """The outage lasts longer than the TTL of the old lease, which is kept alive."""
    async with leading(etcd, clock) as (_, term):
        await term.attach("data", "x")
        until_then = clock() + 2 * CONFIG.lease

        async def lose(call: Call) -> None:
            if followers(call) and call.stage == lost and clock() < until_then:
                await anyio.sleep_forever()

        etcd.hooks.append(lose)
        await moved(etcd, term)
        await anyio.sleep(3 * CONFIG.lease)
        assert lease_of(etcd, "data") == term.lease_id
        assert term.is_valid()


async def test_an_attached_key_that_etcd_refuses_to_move_is_named_and_delays_no_other(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        for name in ("free", "forbidden", "free too"):
            await term.attach(name, "x")

        def refuse(call: Call) -> None:
            if call.stage == "before" and b"forbidden" in followers(call):
                raise EtcdRefusedError("etcdserver: permission denied")

        etcd.hooks.append(refuse)
        await moved(etcd, term)
        await until(lambda: lease_of(etcd, "free") == lease_of(etcd, "free too") == term.lease_id, timeout=1)
        assert any("'forbidden'" in str(error) for error in recorder.errors)
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert lease_of(etcd, "forbidden") is None


async def test_a_key_that_the_application_deleted_is_not_put_again(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):
        await term.attach("data", "x")
        await term.attach("other", "x")
        etcd.delete("data")
        await moved(etcd, term)
        await until(lambda: lease_of(etcd, "other") == term.lease_id, timeout=1)
        await anyio.sleep(CONFIG.lease)
        assert lease_of(etcd, "data") is None


async def test_an_attached_key_that_another_client_put_on_its_own_lease_stays_there(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        await term.attach("data", "x")
        etcd.grant(77, 600)
        etcd.put("data", "theirs", lease=77)
        await moved(etcd, term)
        await anyio.sleep(1)
        assert lease_of(etcd, "data") == 77
        assert any("'data'" in str(error) for error in recorder.errors)


async def test_a_term_that_ends_while_its_keys_follow_leaves_no_key_and_no_lease(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        await term.attach("data", "x")
        held = anyio.Event()

        async def hold_back(call: Call) -> None:
            if followers(call) and call.stage == "before":
                held.set()
                await anyio.sleep_forever()

        etcd.hooks.append(hold_back)
        await moved(etcd, term)
        await held.wait()
    assert not etcd.keys()
    await anyio.sleep(1)
    assert not etcd.leases()


async def test_a_key_that_is_attached_in_the_middle_of_a_move_ends_on_the_new_lease(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    client.latency = 0.05
    async with leading(client, clock) as (_, term):
        for moment in range(20):
            before = term.lease_id
            etcd.change_leader()
            await anyio.sleep(moment * 0.05)
            await term.attach("data", str(moment))
            await until(lambda: term.lease_id != before)  # noqa: B023
            await until(lambda: lease_of(etcd, "data") == term.lease_id, timeout=1)
            assert etcd.keys()[b"data"].value == str(moment).encode()


async def test_a_key_that_cannot_be_attached_is_refused_and_changes_nothing(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        with pytest.raises(ValueError, match="prefix"):
            await term.attach(f"{ELECTION}/thief", "x")
        for number in range(100):
            await term.attach(f"data/{number}", "x")
        with pytest.raises(ValueError, match="100"):
            await term.attach("one too many", "x")
        await term.attach("data/0", "another value")
        client.refuse("txn")
        with pytest.raises(EtcdRefusedError):
            await term.attach("data/1", "y")
        client.lose_request("txn")
        with pytest.raises(EtcdUnavailableError):
            await term.attach("data/1", "y")
        assert term.is_valid()
        etcd.delete(term.key)
        with pytest.raises(LeadershipLostError):
            await term.attach("data/2", "late")
    assert not etcd.keys()
