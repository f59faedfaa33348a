"""A key that exists while its process lives: entering, leaving, and what is refused."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from etcdleader import ConfigError, EtcdRefusedError
from etcdleader.registration import registered
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.registering import KEY, RETRY, TTL, enter, lease_of, value_of
from tests.sim.world import ELECTION, make, until

pytestmark = pytest.mark.anyio


async def test_the_key_is_in_etcd_while_the_block_runs(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with enter(etcd, clock) as registration:
        assert registration.key == KEY
        assert value_of(etcd) == "idle"
        assert lease_of(etcd) == registration.lease_id != 0
        assert registration.is_valid()
        await anyio.sleep(10 * TTL)
        assert registration.is_valid()
        assert len(etcd.leases()) == 1
        assert await anyio.to_thread.run_sync(registration.is_valid)
    assert not registration.is_valid()
    assert registration.lease_id == 0
    assert not etcd.keys()
    assert not etcd.leases()
    with pytest.raises(RuntimeError, match="ended"):
        await registration.update("late")


async def test_entering_waits_while_etcd_is_down(etcd: FakeEtcd, clock: VirtualClock) -> None:
    etcd.stop()
    with anyio.move_on_after(3 * TTL) as waited:
        async with enter(etcd, clock):
            pass
    assert waited.cancelled_caught
    async with anyio.create_task_group() as group:
        entered = anyio.Event()

        async def keep() -> None:
            async with enter(etcd, clock):
                entered.set()

        group.start_soon(keep)
        await anyio.sleep(TTL)
        assert not entered.is_set()
        etcd.start()
        with anyio.fail_after(2 * RETRY):
            await entered.wait()
    assert not etcd.keys()


@pytest.mark.parametrize("lease", [0, 77])
async def test_a_key_of_another_client_is_refused_at_once_and_stays(
    etcd: FakeEtcd, clock: VirtualClock, lease: int
) -> None:
    etcd.grant(77, 600)
    etcd.put(KEY, "theirs", lease=lease)
    before = clock()
    with pytest.raises(EtcdRefusedError, match="exists already"):
        async with enter(etcd, clock):
            raise AssertionError
    assert clock() == before
    assert (value_of(etcd), lease_of(etcd)) == ("theirs", lease)
    assert list(etcd.leases()) == [77]


async def test_a_refusal_by_etcd_is_raised_while_entering(etcd: FakeEtcd, clock: VirtualClock) -> None:
    for kind in ("lease_grant", "txn"):
        client = etcd.client()
        client.refuse(kind, times=1000)
        with anyio.fail_after(RETRY + 0.1), pytest.raises(EtcdRefusedError, match="permission denied"):
            async with enter(client, clock):
                raise AssertionError
        client.clear_faults()
    assert not etcd.keys()


@pytest.mark.parametrize("below", ["worker", "deeper/worker", ""])
@pytest.mark.parametrize("moved", [False, True])
async def test_a_key_below_an_elections_prefix_is_refused(
    etcd: FakeEtcd, clock: VirtualClock, below: str, moved: bool
) -> None:
    manager = make(etcd, clock)
    async with manager:
        term = await manager.wait_elected()
        if moved:
            before = term.lease_id
            etcd.change_leader()
            await until(lambda: term.lease_id != before)
        with pytest.raises(EtcdRefusedError, match=f"below the prefix '{ELECTION}/' of an election"):
            async with enter(etcd, clock, key=f"{ELECTION}/{below}"):
                raise AssertionError
        assert len(await manager.candidates()) == 1


async def test_names_that_look_like_leases_are_no_election(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """As of containers, or random: registrations beside each other must not take each other for candidates."""
    async with enter(etcd, clock, key="workers/deadbeef0123") as first:
        await first.update("busy")
        async with enter(etcd, clock, key="workers/1f") as second:
            assert second.is_valid()


async def test_a_prefix_that_may_not_be_read_is_skipped(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.refuse("range", times=2)
    async with enter(client, clock, key="a/b/c") as registration:
        assert registration.is_valid()


# Leaving


async def test_a_block_may_be_left_in_another_task(etcd: FakeEtcd, clock: VirtualClock) -> None:
    block = enter(etcd, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(block.__aenter__)
    assert value_of(etcd) == "idle"
    await block.__aexit__(None, None, None)
    assert not etcd.keys()


async def test_leaving_takes_at_most_retry_while_etcd_is_down(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with enter(etcd, clock):
        etcd.stop()
        left_at = clock()
    assert clock() - left_at <= RETRY + 0.1


async def test_leaving_while_the_key_is_lost_leaves_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = 0.05
    for moment in range(40):
        async with enter(client, clock):
            etcd.delete(KEY)
            await anyio.sleep(moment * 0.02)
        assert not etcd.keys()
        await anyio.sleep(1)
        assert not etcd.leases()


async def test_it_shares_the_connection_of_a_manager(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    manager = make(client, clock)
    async with manager, enter(client, clock) as registration:
        term = await manager.wait_elected()
        await anyio.sleep(5 * TTL)
        assert registration.is_valid()
        assert term.is_valid()
    assert not etcd.keys()


@pytest.mark.parametrize(
    ("ttl", "text"), [("1 minute", "must be a duration"), (0.5, "must be from 1s"), (True, "duration"), (1e10, "years")]
)
async def test_a_wrong_ttl_is_refused(etcd: FakeEtcd, ttl: object, text: str) -> None:
    with pytest.raises(ConfigError, match=f"ttl = .*{text}"):
        registered(etcd, KEY, "x", ttl=ttl)  # type: ignore[arg-type]


async def test_wrong_arguments_are_refused_before_any_request(etcd: FakeEtcd) -> None:
    with pytest.raises(ValueError, match="key"):
        registered(etcd, "", "x")
    with pytest.raises(TypeError, match="etcd must be"):
        registered("127.0.0.1:2379", KEY, "x")
    with pytest.raises(TypeError, match="bytes"):
        registered(etcd, KEY, 7)  # type: ignore[arg-type]


async def test_the_log_names_what_happens_once(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etcdleader")
    client = etcd.client()
    async with enter(client, clock):
        await anyio.sleep(TTL)
        client.partition()
        await anyio.sleep(3 * TTL)
        client.heal()
        await anyio.sleep(TTL)
    texts = [record.getMessage() for record in caplog.records if record.name == "etcdleader.registration"]
    name = f"the registration of {KEY!r}"
    assert sum(text.startswith(f"renewals of {name} began to fail") for text in texts) == 1
    assert sum(text.startswith(f"{name} was lost (EXPIRED)") for text in texts) == 1
    assert texts[0].startswith(f"{name} is in etcd, on lease")
    assert any(text.startswith(f"{name} is in etcd again") for text in texts)
    assert sum("connection restored" in text for text in texts) == 1
