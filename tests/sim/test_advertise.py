"""An advertised text: put on the candidate's own key at any moment, and never taken for a step-down request."""

from __future__ import annotations

import json
import os
import socket

import anyio
import pytest

from etcdleader import Config, ConfigError, EtcdRefusedError, EtcdUnavailableError, LeaderManager, LossReason
from etcdleader._etcd.api import Put, Range
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.moving import moved
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio

ADDRESS = "http://10.0.0.1:8000"


def configured(advertise: str) -> Config:
    return Config(enabled=True, id="sim", lease=10, renew=2, retry=1, margin=1, advertise=advertise)


def stored(etcd: FakeEtcd, manager: LeaderManager) -> str | None:
    """Return the value in etcd, as a foreign client reads it."""
    (value,) = (kv.value.decode() for kv in etcd.keys().values() if manager.identity.encode() in kv.value)
    return str(json.loads(value)["advertise"]) if value.startswith("{") else None


def updates_in(call: Call) -> list[Put]:
    """The puts of a new value: on the lease that the transaction compares."""
    if call.kind != "txn":
        return []
    compare, success, _ = call.arguments
    leases = [one.value for one in compare if one.target == "lease"]
    return [one for one in success if isinstance(one, Put) and one.lease in leases]


async def test_the_leader_advertises_what_the_setting_says(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock, config=configured("http://{host}:1"))
    async with manager:
        term = await manager.wait_elected()
        record = await manager.leader()
        assert record is not None
        assert record.identity == term.identity == manager.identity
        assert record.advertised == manager.advertised
        assert record.advertised is not None
        assert "{" not in record.advertised


@pytest.mark.parametrize("text", ["http://{host}:{pid}", '{"host": "{host}", "pid": {pid}}'])
async def test_an_advertised_value_has_the_same_placeholders_as_the_setting(
    etcd: FakeEtcd, clock: VirtualClock, text: str
) -> None:
    configured_one = make(etcd, clock, "configured", config=configured(text))
    manager = make(etcd, clock)
    async with configured_one, manager:
        await until(lambda: len(etcd.keys()) == 2)
        await manager.advertise(text)
        expected = text.replace("{host}", socket.gethostname()).replace("{pid}", str(os.getpid()))
        assert stored(etcd, manager) == manager.advertised == expected
        assert stored(etcd, configured_one) == expected


@pytest.mark.parametrize("text", ["http://{hostname}", "http://{host"])
async def test_a_value_with_another_placeholder_is_refused_and_the_earlier_one_stays(
    etcd: FakeEtcd, clock: VirtualClock, text: str
) -> None:
    async with leading(etcd, clock) as (manager, _):
        await manager.advertise(ADDRESS)
        with pytest.raises(ConfigError, match="is no placeholder"):
            await manager.advertise(text)
        assert stored(etcd, manager) == manager.advertised == ADDRESS


async def test_before_the_campaign_the_value_is_remembered(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager = make(etcd, clock)
    await manager.advertise(ADDRESS)
    assert not etcd.calls
    async with manager:
        await manager.wait_elected()
        assert stored(etcd, manager) == ADDRESS
        assert not [event for one in etcd.history for event in one.events if event.kv.version > 1]


async def test_a_new_value_is_one_put_and_no_request_to_step_down(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """This holds for the leader, for waiting candidates, and for those that receive it by a read."""
    leader, second, third = (make(etcd, clock, name) for name in "abc")
    async with leader, anyio.create_task_group() as group:
        term = await leader.wait_elected()
        for manager in (second, third):
            await group.start(manager.campaign)
        queue = [record.token for record in await leader.candidates()]
        for number, manager in enumerate((leader, second, third)):
            before = etcd.revision
            await manager.advertise(f"{ADDRESS}/{number}")
            assert etcd.revision == before + 1
            assert stored(etcd, manager) == f"{ADDRESS}/{number}"
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        records = await leader.candidates()
        assert [record.token for record in records] == queue
        assert [record.advertised for record in records] == [f"{ADDRESS}/{number}" for number in range(3)]
        assert [record.identity for record in records] == [one.identity for one in (leader, second, third)]
        await leader.advertise(None)
        assert stored(etcd, leader) is None
        await leader.advertise(None)
        assert term.is_valid()
        group.cancel_scope.cancel()


async def test_a_value_that_cannot_be_advertised_changes_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, _):
        await manager.advertise(ADDRESS)
        with pytest.raises(ConfigError, match="1024"):
            await manager.advertise("x" * 1025)
        assert (manager.advertised, stored(etcd, manager)) == (ADDRESS, ADDRESS)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("lost", [None, "before", "after"])
@pytest.mark.parametrize("watch", ["works", "is silent"])
async def test_a_request_to_step_down_beside_a_new_value_is_not_lost(
    etcd: FakeEtcd, clock: VirtualClock, order: str, lost: str | None, watch: str
) -> None:
    """The request may come just before the put or just after it, and the answer may get lost."""
    client = etcd.client()

    async def request(call: Call) -> None:
        if updates_in(call) and call.stage == order:
            etcd.hooks.remove(request)
            etcd.request_step_down(term.key)

    async def lose(call: Call) -> None:
        if updates_in(call) and call.stage == lost:
            etcd.hooks.remove(lose)
            await anyio.sleep_forever()

    async with leading(client, clock) as (manager, term):
        if watch == "is silent":
            client.stall_watches()
        etcd.hooks.append(request)
        etcd.hooks.append(lose)
        try:
            await manager.advertise(ADDRESS)
        except EtcdUnavailableError:
            assert lost
        if request in etcd.hooks:  # the put never came
            etcd.hooks.remove(request)
            etcd.request_step_down(term.key)
        await until(lambda: term.loss_reason is LossReason.RESIGNED, timeout=CONFIG.lease)
        client.resume_watches()
        await until(manager.is_leader)
        assert stored(etcd, manager) == ADDRESS


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("watch", ["works", "is silent"])
async def test_a_lost_answer_is_reported_and_the_next_call_settles_it(
    etcd: FakeEtcd, clock: VirtualClock, lost: str, watch: str
) -> None:
    client = etcd.client()
    late = anyio.Event()

    async def hold_back(call: Call) -> None:
        if updates_in(call) and call.stage == lost:
            etcd.hooks.remove(hold_back)
            await late.wait()

    async with leading(client, clock) as (manager, term):
        if watch == "is silent":
            client.stall_watches()
        etcd.hooks.append(hold_back)
        with pytest.raises(EtcdUnavailableError):
            await manager.advertise(ADDRESS)
        await manager.advertise("second")
        assert stored(etcd, manager) == "second"
        late.set()
        await moved(etcd, term)
        client.resume_watches()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert stored(etcd, manager) == "second"


@pytest.mark.parametrize("late", [0, 0.4, 0.6, 1.5, 5])
async def test_a_value_of_the_same_text_after_a_lost_answer_is_no_request(
    etcd: FakeEtcd, clock: VirtualClock, late: float
) -> None:
    """A, then B without an answer, then A again."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.stall_watches()
        await manager.advertise("A")
        client.delay("txn", request=late)
        with anyio.move_on_after(0.5):
            await manager.advertise("B")
        await manager.advertise("A")
        client.resume_watches()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert stored(etcd, manager) == "A"


@pytest.mark.parametrize("moment", [number * 0.02 for number in range(30)])
async def test_a_move_and_a_new_value_meet_at_any_moment(etcd: FakeEtcd, clock: VirtualClock, moment: float) -> None:
    """The key moves with the current value, and the value is put on the lease that the key is on."""
    client = etcd.client()
    client.latency = 0.05
    async with leading(client, clock) as (manager, term):
        before = term.lease_id
        etcd.change_leader()
        async with anyio.create_task_group() as group:
            group.start_soon(manager.extend)
            await anyio.sleep(moment)
            await manager.advertise(ADDRESS)
        await until(lambda: term.lease_id != before)
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()
        assert stored(etcd, manager) == ADDRESS
        assert etcd.keys()[term.key.encode()].lease == term.lease_id
        etcd.request_step_down(term.key)
        await until(lambda: term.loss_reason is LossReason.RESIGNED)


async def test_a_new_value_that_only_an_event_has_shown_moves_with_the_key(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The answer was lost. A move that put the value from before would undo it."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.lose_answer("txn")
        with pytest.raises(EtcdUnavailableError):
            await manager.advertise(ADDRESS)
        await moved(etcd, term)
        assert stored(etcd, manager) == ADDRESS
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


async def test_a_renewal_that_read_the_key_before_its_new_value_is_no_loss(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Its answer comes late, when the new value is known."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        read = anyio.Event()

        async def hold_back(call: Call) -> None:
            if call.kind == "txn" and call.stage == "after" and Range(term.key.encode()) in call.arguments[1]:
                etcd.hooks.remove(hold_back)
                read.set()
                await anyio.sleep(CONFIG.retry / 2)

        etcd.hooks.append(hold_back)
        await read.wait()
        await manager.advertise(ADDRESS)
        before = manager.statistics().renewals
        await until(lambda: manager.statistics().renewals > before)
        assert manager.statistics().renewal_failures == 0
        assert term.is_valid()


async def test_a_key_that_was_moved_has_the_current_value(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        await manager.advertise(ADDRESS)
        await moved(etcd, term)
        assert stored(etcd, manager) == ADDRESS
        await manager.advertise("second")
        assert stored(etcd, manager) == "second"
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


@pytest.mark.parametrize("how", ["deleted", "overwritten", "detached"])
async def test_the_value_of_a_key_that_was_taken_away_is_used_at_the_next_candidacy(
    etcd: FakeEtcd, clock: VirtualClock, how: str
) -> None:
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.stall_watches()
        if how == "deleted":
            etcd.delete(term.key)
        elif how == "detached":
            etcd.put(term.key, ignore_value=True)
        else:
            etcd.put(term.key, "thief", ignore_lease=True)
        await manager.advertise(ADDRESS)
        assert term.loss_reason is LossReason.DELETED
        client.resume_watches()
        etcd.delete(term.key)
        await until(manager.is_leader)
        assert stored(etcd, manager) == ADDRESS


async def test_an_etcd_that_does_not_answer_is_reported_within_retry(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.lose_request("txn")
        before = clock()
        with pytest.raises(EtcdUnavailableError):
            await manager.advertise(ADDRESS)
        assert clock() - before == pytest.approx(CONFIG.retry, abs=0.05)
        assert term.is_valid()


async def test_a_refused_value_is_reported_and_used_at_the_next_candidacy(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.fail("txn", EtcdRefusedError("no permission"), times=1)
        with pytest.raises(EtcdRefusedError):
            await manager.advertise(ADDRESS)
        assert term.is_valid()
        await manager.resign()
        await until(manager.is_leader)
        assert stored(etcd, manager) == ADDRESS


async def test_a_value_that_is_given_while_the_candidate_joins_reaches_etcd(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    client.latency = 0.05
    for moment in range(12):
        manager = make(client, clock)
        async with anyio.create_task_group() as group:
            group.start_soon(manager.campaign)
            await anyio.sleep(moment * 0.02)
            await manager.advertise(ADDRESS)
            await until(manager.is_leader)
            assert stored(etcd, manager) == ADDRESS
            await manager.stop()


async def test_two_values_at_once_are_put_in_their_order(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(manager.advertise, str(number))
        assert stored(etcd, manager) == manager.advertised
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


async def test_an_observer_receives_a_new_value_of_the_leader(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, _), make(etcd, clock, "b").observe() as leaders:
        assert (await anext(leaders)).advertised is None  # type: ignore[union-attr]
        await manager.advertise(ADDRESS)
        record = await anext(leaders)
        assert record is not None
        assert (record.identity, record.advertised) == (manager.identity, ADDRESS)
