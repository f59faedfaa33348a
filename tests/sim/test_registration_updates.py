"""The value of a registered key changes, whatever else happens at that moment."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from etcdleader import EtcdRefusedError, EtcdUnavailableError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.registering import KEY, RETRY, TTL, enter, lease_of, value_of
from tests.sim.world import until

pytestmark = pytest.mark.anyio


async def test_an_update_returns_once_etcd_has_the_value(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = 0.05
    async with enter(client, clock) as registration:
        for number in range(50):
            await registration.update(str(number))
            assert value_of(etcd) == str(number)
            await anyio.sleep(0.17)
        await anyio.sleep(TTL)
        assert registration.is_valid()
        assert etcd.keys()[KEY.encode()].version == 51, "it was never lost and put again"


async def test_updates_at_the_same_time_leave_the_last_one(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = (0.01, 0.2)
    async with enter(client, clock) as registration:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(registration.update, str(number))
                await anyio.lowlevel.checkpoint()
        assert value_of(etcd) == "9"


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("without_events", [False, True], ids=["watched", "without events"])
async def test_an_update_without_an_answer_is_sent_again(
    etcd: FakeEtcd, clock: VirtualClock, lost: str, without_events: bool
) -> None:
    client = etcd.client()
    async with enter(client, clock) as registration:
        if without_events:
            client.stall_watches()
        lease = registration.lease_id
        (client.lose_request if lost == "request" else client.lose_answer)("txn")
        with pytest.raises(EtcdUnavailableError):
            await registration.update("busy")
        await registration.update("busier")
        assert value_of(etcd) == "busier"
        await anyio.sleep(3 * TTL)
        assert registration.is_valid()
        assert registration.lease_id == lease, "it was never lost"


@pytest.mark.parametrize("applied", [False, True])
async def test_an_update_survives_a_connection_that_breaks(etcd: FakeEtcd, clock: VirtualClock, applied: bool) -> None:
    """As that of a member which restarts: its calls fail at once."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        client.fail("txn", EtcdUnavailableError("the peer hung up"), applied=applied, times=2)
        await registration.update("busy")
        assert value_of(etcd) == "busy"
        assert clock() < RETRY


@pytest.mark.parametrize("without_events", [False, True], ids=["watched", "without events"])
async def test_an_update_that_was_applied_without_an_answer_survives_a_move(
    etcd: FakeEtcd, clock: VirtualClock, without_events: bool
) -> None:
    """The move puts the newest value that etcd has shown."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        if without_events:
            client.stall_watches()
        client.lose_answer("txn")
        with pytest.raises(EtcdUnavailableError):
            await registration.update("busy")
        before = registration.lease_id
        etcd.change_leader()
        await until(lambda: registration.lease_id != before, timeout=TTL)
        assert (value_of(etcd), lease_of(etcd)) == ("busy", registration.lease_id)


async def test_a_read_from_before_an_update_is_no_loss(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The response to a renewal's read may arrive after that of the update."""
    client = etcd.client()
    async with enter(client, clock) as registration:
        held = anyio.Event()
        released = anyio.Event()

        async def hold_back(call: Call) -> None:
            if call.kind == "txn" and call.stage == "after" and not call.arguments[0] and not held.is_set():
                held.set()
                await released.wait()

        etcd.hooks.append(hold_back)
        await held.wait()
        await registration.update("busy")
        released.set()
        lease = registration.lease_id
        await anyio.sleep(3 * TTL)
        assert registration.lease_id == lease


async def test_a_refused_update_leaves_the_earlier_value(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with enter(client, clock) as registration:
        client.refuse("txn")
        with pytest.raises(EtcdRefusedError):
            await registration.update("busy")
        assert registration.is_valid()
        etcd.delete(KEY)
        await until(lambda: value_of(etcd) is not None, timeout=RETRY)
        assert value_of(etcd) == "idle"


async def test_an_update_in_the_middle_of_a_move_is_kept(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.latency = 0.05
    async with enter(client, clock) as registration:
        for moment in range(30):
            before = registration.lease_id
            etcd.change_leader()
            await anyio.sleep(moment * 0.05)
            await registration.update(str(moment))
            await until(lambda: registration.lease_id != before, timeout=TTL)  # noqa: B023
            await anyio.sleep(0.2)
            assert (value_of(etcd), lease_of(etcd)) == (str(moment), registration.lease_id)
            assert registration.is_valid()
        assert etcd.keys()[KEY.encode()].version == 61, "put once, moved and updated thirty times"
