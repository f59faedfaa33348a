"""Which renewals count, when the next one starts, and which ones are not made."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from etcdleader import EtcdLeaderManager, EtcdUnavailableError, LeadershipLostError, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.calls import KeepAlives, is_confirming_read, is_proposal
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio

TRUSTED = CONFIG.lease - CONFIG.margin


async def test_a_renewal_starts_renew_after_the_last_confirmed_one_was_sent(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """If the response counted, a slow network would spread the renewals, and fewer would fit into a lease."""
    client = etcd.client()
    client.latency = 0.15
    seen = KeepAlives(etcd)
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(10)
        assert seen.times(term.lease_id)[:4] == pytest.approx([2.45, 4.45, 6.45, 8.45])


async def test_a_lease_is_valid_from_the_send_time_however_late_the_response(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    client.delay("lease_keep_alive", request=0.05, answer=0.85)
    async with manager:
        term = await manager.wait_elected()
        await until(lambda: manager.statistics().renewals == 1)
        assert clock() == pytest.approx(2.9, abs=0.01)
        assert term.remaining() == pytest.approx(2 + TRUSTED - clock())


async def test_a_failed_renewal_is_repeated_at_once_and_ends_no_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The next one starts `renew` after the confirmed one was sent."""
    client = etcd.client()
    seen = KeepAlives(etcd)
    manager = make(client, clock)
    client.fail("lease_keep_alive", EtcdUnavailableError("UNAVAILABLE: reset"))
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(2.5)
        assert seen.times(term.lease_id) == [2, 2]
        assert term.remaining() == pytest.approx(2 + TRUSTED - clock())
        client.lose_answer("lease_keep_alive")
        await anyio.sleep(6)
        # Sent at 4, timed out a `retry` later, confirmed at the second attempt.
        assert seen.times(term.lease_id) == [2, 2, 4, 5, 7]
        statistics = manager.statistics()
        assert (statistics.renewals, statistics.renewal_failures) == (3, 2)


async def test_renewals_continue_until_the_deadline_and_not_beyond(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Two attempts are made at once, then at most `retry` apart.

    Past the deadline the lease is not renewed, even while its work still ends. The leadership was counted as lost, and
    must become free.
    """
    client = etcd.client()
    seen = KeepAlives(etcd)
    manager = make(client, clock)

    async def slow_to_end(manager: object, term: Term) -> None:
        await work_until_cancelled(5)

    manager.on_elected(slow_to_end)
    async with manager:
        term = await manager.wait_elected()
        client.fail("lease_keep_alive", EtcdUnavailableError("UNAVAILABLE: reset"), times=10_000)
        await until(lambda: not term.is_valid())
        assert clock() == pytest.approx(TRUSTED, abs=0.01)
        client.clear_faults()
        await anyio.sleep(4)
        times = seen.times(term.lease_id)
        assert times[:2] == [2, 2]
        # The loop's pauses have a minimum of a millisecond.
        assert max(later - earlier for earlier, later in pairwise(times)) <= CONFIG.retry + 0.002
        assert TRUSTED - CONFIG.retry <= times[-1] < TRUSTED
        assert term.loss_reason is LossReason.EXPIRED


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("step", ["proposal", "read"])
async def test_a_keep_alive_without_the_proposal_or_the_read_after_it_extends_nothing(
    etcd: FakeEtcd, clock: VirtualClock, step: str, lost: str
) -> None:
    """A deposed leader of etcd answers keep-alives, but neither the proposal nor the read."""
    client = etcd.client()
    manager = make(client, clock)

    async def lose(call: Call) -> None:
        if (is_confirming_read(call) if step == "read" else is_proposal(call)) and call.stage == lost:
            await anyio.sleep_forever()

    async with manager:
        term = await manager.wait_elected()
        etcd.hooks.append(lose)
        await until(lambda: not term.is_valid())
        assert clock() == pytest.approx(TRUSTED, abs=0.01)
        assert client.calls["lease_keep_alive"] > 4
        assert manager.statistics().renewals == 0
        etcd.hooks.remove(lose)


async def test_a_confirmation_received_past_the_deadline_extends_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It was sent and answered in time by etcd's clock.

    But this process was suspended before it could read the response.
    """
    manager = make(etcd, clock)

    def suspend(call: Call) -> None:
        if is_confirming_read(call) and call.stage == "after":
            etcd.hooks.remove(suspend)
            clock.advance(TRUSTED - 1)

    async with manager:
        term = await manager.wait_elected()
        etcd.hooks.append(suspend)
        await anyio.sleep(2)
        await anyio.wait_all_tasks_blocked()
        assert suspend not in etcd.hooks
        assert not term.is_valid()
        assert term.loss_reason is LossReason.EXPIRED
        assert manager.statistics().renewals == 0
        assert (await manager.wait_elected()).token > term.token
        assert not term.is_valid()


async def test_a_lease_that_no_longer_exists_in_etcd_ends_the_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The watch is silent. The keep-alive's response with a TTL of 0 reveals it."""
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        client.stall_watches()
        etcd.revoke(term.lease_id)
        await until(lambda: not term.is_valid(), timeout=CONFIG.renew + 0.1)
        assert term.loss_reason is LossReason.REVOKED


async def test_a_hundred_concurrent_extensions_send_one_keep_alive(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Two requests in flight at once could not be distinguished. The fake would refuse them."""
    client = etcd.client()
    client.latency = 0.1
    manager = make(client, clock)
    async with manager:
        term = await manager.wait_elected()
        before = client.calls["lease_keep_alive"]
        extended: list[Term] = []

        async def extend() -> None:
            extended.append(await manager.extend(term))

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(extend)
        assert extended == [term] * 100
        assert client.calls["lease_keep_alive"] == before + 1
        # Calls that begin while the read is in flight need another one, because its result may be older than they are.
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(extend)
                await anyio.sleep(0.01 * (number % 7))
        assert len(extended) == 200
        assert term.is_valid()


async def test_an_extension_is_confirmed_by_a_read_sent_after_the_call(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It promises that we were the leader at some moment after the call, so an older response is not enough."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.stall_watches()
        client.delay("txn", times=1)  # the response to the proposal
        client.delay("txn", answer=0.5)
        await until(lambda: client.calls["lease_keep_alive"] == 1)
        await anyio.sleep(0.1)  # the read was answered while our key existed; its response is in flight
        etcd.delete(term.key)
        with pytest.raises(LeadershipLostError, match="no longer leads"):
            await manager.extend(term)
        assert term.loss_reason is LossReason.DELETED


async def test_an_extension_without_a_response_raises_and_does_not_end_the_term(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        client.lose_answer("lease_keep_alive", times=3)
        asked_at = clock()
        with pytest.raises(EtcdUnavailableError):
            await manager.extend()
        assert clock() - asked_at <= CONFIG.retry + 0.001
        assert term.is_valid()
        assert term.remaining() == pytest.approx(TRUSTED - (clock() - asked_at), abs=0.01)
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()


@pytest.mark.parametrize(("number", "reads"), [(20, {"txn": 2}), (129, {"txn": 4})], ids=["20", "129"])
async def test_the_renewals_of_one_connection_share_their_proposal_and_their_read(
    etcd: FakeEtcd, clock: VirtualClock, number: int, reads: dict[str, int]
) -> None:
    """They send one keep-alive for each lease, and two transactions for every 128 keys, etcd's limit for one."""
    client = etcd.client()
    managers: list[EtcdLeaderManager] = [make(client, clock, election=f"election-{n}") for n in range(number)]
    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(manager.campaign)
        for manager in managers:
            await manager.wait_elected()
        await anyio.sleep(0.5)
        before = client.calls.copy()
        await anyio.sleep(CONFIG.renew)
        spent = client.calls - before
        del spent["watch_progress"]
        assert dict(spent) == {"lease_keep_alive": number, **reads}
        group.cancel_scope.cancel()
