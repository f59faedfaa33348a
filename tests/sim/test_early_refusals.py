"""Writes that are refused before this process has received the event that ends its term."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from etcdleader import EtcdLeaderError, EtcdLeaderManager, LeadershipLostError, LossReason, Term
from etcdleader.fencing import FencedError
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.late_acts import Act, nothing, provoke, write_in_a_task_of_the_work, write_through_a_gate
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio


def refused_after(etcd: FakeEtcd, manager: EtcdLeaderManager, act: Act) -> Callable[..., Awaitable[None]]:
    """Return work whose first term is ended by etcd, and which acts before any event has arrived."""
    terms: list[Term] = []

    async def work(*arguments: object) -> None:
        term = manager.term
        assert term is not None
        await anyio.sleep(0.5)
        if not terms or terms[0] is term:
            if not terms:
                terms.append(term)
                etcd.revoke(term.lease_id)
            assert term.is_valid()
            await act(manager, term)
            raise AssertionError
        await anyio.sleep_forever()

    return work


async def attach(manager: EtcdLeaderManager, term: Term) -> None:
    await term.attach("status", "up")


FIRST: dict[str, tuple[Act, type[EtcdLeaderError]]] = {
    "Gate.passing": (write_through_a_gate, FencedError),
    "attach": (attach, LeadershipLostError),
    "in a group": (write_in_a_task_of_the_work, FencedError),
}


@pytest.mark.parametrize("how", FIRST)
@pytest.mark.parametrize("place", ["work", "on_elected", "on_error"])
async def test_a_refusal_received_before_the_event_of_the_loss_counts_as_a_loss(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture, place: str, how: str
) -> None:
    act, kind = FIRST[how]
    client = etcd.client("a")
    manager = make(client, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    work = refused_after(etcd, manager, act)
    if place == "on_elected":
        manager.on_elected(work)
    elif place == "on_error":
        manager.on_error(work)
        manager.on_elected(provoke)
    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work if place == "work" else nothing)
        term = await manager.wait_elected()
        client.stall_watches()
        began_at = anyio.current_time()
        await until(lambda: term.loss_reason)
        assert anyio.current_time() - began_at < 0.5 + CONFIG.retry
        await until(lambda: manager.statistics().terms == 2)
        assert (await manager.wait_elected()).token > term.token
        group.cancel_scope.cancel()
    assert term.loss_reason in {LossReason.DELETED, LossReason.REVOKED}
    assert manager.statistics().losses[term.loss_reason] == 1
    assert LossReason.FAILED not in manager.statistics().losses
    assert any("after the end of its term" in record.message for record in caplog.records)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    if place != "on_error":
        assert [error for error in errors if isinstance(error, kind)]


async def test_a_leading_block_that_is_refused_before_the_event_of_the_loss_raises_leadership_lost(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    async with manager:
        with pytest.raises(LeadershipLostError) as caught:
            async with manager.leading() as term:
                client.stall_watches()
                etcd.revoke(term.lease_id)
                await write_through_a_gate(manager, term)
        assert caught.value.term is term
        assert isinstance(caught.value.__cause__, FencedError)


async def test_a_refusal_in_a_term_that_etcd_does_not_confirm_in_time_ends_the_campaign(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    refused_at = 0.0

    async def work(term: Term) -> None:
        nonlocal refused_at
        client.partition()
        refused_at = anyio.current_time()
        await write_through_a_gate(manager, term)

    manager.on_ousted(lambda manager, term: client.heal())
    with anyio.fail_after(CONFIG.lease), pytest.raises(FencedError):
        await manager.run(work)
    assert CONFIG.retry - 0.1 <= anyio.current_time() - refused_at <= 2 * CONFIG.retry


@pytest.mark.parametrize("way", ["stop", "resign", "loss"])
async def test_a_term_that_ends_while_it_is_being_confirmed_ends_normally(
    etcd: FakeEtcd, clock: VirtualClock, way: str
) -> None:
    client = etcd.client("a")
    manager = make(client, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    runs = 0

    async def work(term: Term) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            client.delay("txn", answer=0.5)
            await write_through_a_gate(manager, term)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(manager.run, work)
        term = await manager.wait_elected()
        await anyio.sleep(0.1)
        assert term.is_valid()
        if way == "loss":
            etcd.revoke(term.lease_id)
            await until(lambda: not term.is_valid(), timeout=0.3)
        else:
            await getattr(manager, way)()
        if way != "stop":
            await until(lambda: runs == 2)
            group.cancel_scope.cancel()
    assert LossReason.FAILED not in manager.statistics().losses
    assert any(isinstance(error, FencedError) for error in errors)
