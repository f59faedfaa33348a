"""Leases that are renewed in one round: a failure of one lease does not affect the others."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import pytest

from etcdleader import Config, EtcdRefusedError, LeadershipLostError, LossReason, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.slow_work import work_until_cancelled
from tests.sim.calls import KeepAlives, is_confirming_read, keys_of
from tests.sim.crowd import PER_READ, leaders, leave_out
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

PATIENT = Config(enabled=True, id="sim", lease=10, renew=2, retry=3, margin=1)
"""An attempt may take longer than the interval between renewals."""


async def test_an_extension_does_not_wait_for_a_round_that_is_over_for_its_lease(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The round retries the other lease. That attempt does not confirm our lease."""
    client = etcd.client()
    ours, other = make(client, clock, election="ours"), make(client, clock, election="other")
    async with ours:
        await ours.wait_elected()
        async with other:
            await other.wait_elected()
            client.delay("lease_keep_alive", times=1)  # response for our lease: none
            client.lose_answer("lease_keep_alive")
            client.delay("txn", times=3)  # our proposal and read, and the other's proposal: none
            client.delay("txn", answer=0.8)
            await until(lambda: ours.statistics().renewals == 1 and other.statistics().renewal_failures == 1)
            client.clear_faults()
            before = clock()
            await ours.extend()
            assert clock() - before < 0.1
            assert other.statistics().renewals == 0


async def test_a_round_that_continues_for_one_lease_delays_no_other(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    seen = KeepAlives(etcd)
    ours, other = (make(client, clock, election=name, config=PATIENT) for name in ("ours", "other"))
    async with ours:
        term = await ours.wait_elected()
        async with other:
            await other.wait_elected()
            client.delay("lease_keep_alive", times=1)
            client.lose_answer("lease_keep_alive", times=2)  # response for the other lease: none, in both attempts
            await until(lambda: other.statistics().renewal_failures == 1)
            await anyio.sleep(0.1)
            # Confirmed late, because the responses of a round are awaited together. So the next renewal is due at once.
            assert seen.times(term.lease_id) == [2, 5]


async def test_an_extension_that_waited_past_the_deadline_renews_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The leadership was counted as lost and must become free, although its work is still ending."""
    client = etcd.client()
    seen = KeepAlives(etcd)
    manager = make(client, clock)

    async def slow_to_end(manager: object, term: Term) -> None:
        await work_until_cancelled(5)

    manager.on_elected(slow_to_end)
    trusted = CONFIG.lease - CONFIG.margin
    async with manager:
        term = await manager.wait_elected()
        client.lose_answer("txn", times=10_000)
        await anyio.sleep(trusted - CONFIG.retry)
        reads = client.calls["txn"]
        await until(lambda: client.calls["txn"] > reads)
        with pytest.raises(LeadershipLostError):
            await manager.extend()
        assert clock() > trusted
        assert not term.is_valid()
        client.clear_faults()
        assert seen.times(term.lease_id)[-1] < trusted


async def test_a_clock_need_not_be_hashable(etcd: FakeEtcd) -> None:
    class Clock:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Clock)

        def __call__(self) -> float:
            return anyio.current_time()

    manager = make(etcd, Clock())
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


async def test_a_lease_is_not_renewed_by_the_responses_for_others(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Of hundreds in one round it is the only lease without a response from etcd."""
    client = etcd.client()
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        victim = led[137]
        leave_out(client, victim.lease_id)
        trusted = victim.remaining()
        await anyio.sleep(trusted - 0.01)
        assert victim.is_valid()
        await anyio.sleep(0.02)
        assert not victim.is_valid()
        await anyio.sleep(2 * CONFIG.lease)
        assert victim.loss_reason is LossReason.EXPIRED
        assert [number for number, term in enumerate(led) if not term.is_valid()] == [VICTIM]


async def test_a_key_that_is_gone_is_not_confirmed_by_existing_keys_of_the_same_read(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        client.stall_watches()
        victims = range(0, len(led), 7)
        for number in victims:
            etcd.delete(led[number].key)
        await anyio.sleep(CONFIG.renew + CONFIG.retry)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == list(victims)
        assert {led[number].loss_reason for number in victims} == {LossReason.DELETED}


async def test_leases_that_have_ended_end_no_other_of_their_round(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        client.stall_watches()
        victims = range(0, len(led), 7)
        for number in victims:
            etcd.revoke(led[number].lease_id)
        await anyio.sleep(CONFIG.renew + CONFIG.retry)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == list(victims)
        assert {led[number].loss_reason for number in victims} == {LossReason.REVOKED}
        before = [manager.statistics().renewal_failures for manager in managers]
        assert not any(before), "no other renewal failed"


VICTIM = 137


def at_keep_alives_of(term: Term, etcd: FakeEtcd, act: Callable[[], Awaitable[None] | None]) -> None:
    """Act whenever a keep-alive of the term's lease reaches etcd, before it is answered."""

    def hook(call: Call) -> Awaitable[None] | None:
        of_it = call.kind == "lease_keep_alive" and call.stage == "before" and call.arguments == (term.lease_id,)
        return act() if of_it else None

    etcd.hooks.append(hook)


async def test_one_lease_that_etcd_refuses_to_renew_ends_no_other_leadership(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Each time the refusal ends the stream, with the other leases' requests in flight."""
    client = etcd.client()
    client.latency = 0.005
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]

        def refuse() -> None:
            raise EtcdRefusedError("etcdserver: permission denied")

        at_keep_alives_of(led[VICTIM], etcd, refuse)
        await anyio.sleep(3 * CONFIG.lease)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == [VICTIM]


async def test_an_expired_lease_delays_the_others_on_the_stream_only_until_its_revocation(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """etcd serves a stream in order. It answers for such a lease after revoking it, which it does twice a second."""
    client = etcd.client()
    client.latency = 0.005
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]

        def run_out() -> None:
            etcd._cluster.lessor._leases[led[VICTIM].lease_id].expires_at = clock()
            etcd._cluster._expires_sooner.send()

        at_keep_alives_of(led[VICTIM], etcd, run_out)
        least = CONFIG.lease
        while led[VICTIM].is_valid() or clock() < 2 * CONFIG.lease:
            least = min(least, *(term.remaining() for term in led if term is not led[VICTIM]))
            await anyio.sleep(0.05)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == [VICTIM]
        assert led[VICTIM].loss_reason in (LossReason.REVOKED, LossReason.DELETED)
        assert sum(manager.statistics().renewal_failures for manager in managers) == 0
        assert least > CONFIG.lease - CONFIG.margin - CONFIG.renew - 0.6


async def test_one_lease_without_responses_ends_no_other_leadership(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It blocks all leases behind it on the stream, and again at the next attempt."""
    client = etcd.client()
    client.latency = 0.005
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]

        at_keep_alives_of(led[VICTIM], etcd, anyio.sleep_forever)
        await anyio.sleep(3 * CONFIG.lease)
        assert [number for number, term in enumerate(led) if not term.is_valid()] == [VICTIM]


async def test_leases_behind_the_first_unanswered_keep_alive_are_renewed_in_the_second_attempt(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """They would also be behind it on the new stream."""
    client = etcd.client()
    async with leaders(client, clock, 20) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        sent: list[int] = []
        victim = 0

        async def hold_up(call: Call) -> None:
            nonlocal victim
            if call.kind == "lease_keep_alive" and call.stage == "before":
                sent.append(call.arguments[0])
                victim = victim or call.arguments[0]
                if call.arguments[0] == victim:
                    await anyio.sleep_forever()

        etcd.hooks.append(hold_up)
        await until(lambda: bool(sent))
        await anyio.sleep(CONFIG.retry + 0.01)
        renewed = [term.lease_id for term in led if term.remaining() > CONFIG.lease - CONFIG.margin - CONFIG.retry]
        assert sorted(renewed) == sorted(term.lease_id for term in led if term.lease_id != victim)


async def test_a_slow_round_delays_no_other_round_and_its_own_leases_by_one_attempt_at_most(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Its read is slow. Keep-alives of all rounds share one stream, which keeps their order."""
    client = etcd.client()
    async with leaders(client, clock) as managers:
        led = [term for manager in managers if (term := manager.term) is not None]
        slow = 0.9 * CONFIG.retry
        victim = led[5].key.encode()  # the read of the first round
        begun = math.inf

        async def hold_up(call: Call) -> None:
            nonlocal begun
            if is_confirming_read(call) and call.stage == "before" and victim in keys_of(call):
                begun = clock()
                await anyio.sleep(slow)

        etcd.hooks.append(hold_up)
        await until(lambda: not math.isinf(begun))
        etcd.hooks.clear()
        await anyio.sleep(0.2)
        fresh = [term for term in led if term.remaining() > CONFIG.lease - CONFIG.margin - 0.3]
        assert len(led) - PER_READ <= len(fresh) < len(led)
        await anyio.sleep(slow)
        assert all(term.remaining() > CONFIG.lease - CONFIG.margin - 1.5 for term in led)
        assert sum(manager.statistics().renewal_failures for manager in managers) == 0


async def test_a_slow_read_delays_no_lease_of_another_read(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Each waiting candidate is confirmed by two keys, so that one round takes two reads."""
    ahead, client = etcd.client("ahead"), etcd.client("behind")
    async with leaders(ahead, clock, PER_READ), anyio.create_task_group() as group:
        waiting = [make(client, clock, election=f"election-{number}") for number in range(PER_READ)]
        for manager in waiting:
            group.start_soon(manager.campaign)
        await until(lambda: all(manager.statistics().queue_position == 1 for manager in waiting))
        await anyio.sleep(0.5)
        reads = client.calls["txn"]
        client.delay("txn", times=1)  # the response to the proposal: none
        client.delay("txn", answer=0.9 * CONFIG.retry)
        await until(lambda: client.calls["txn"] > reads)
        await anyio.sleep(0.01)
        assert client.calls["txn"] == reads + 3, "all of them at once, in a proposal and two reads"
        renewed = sorted(manager.statistics().renewals for manager in waiting)
        assert renewed == [0] * (PER_READ // 2) + [1] * (PER_READ // 2)
        await anyio.sleep(CONFIG.retry)
        assert sum(manager.statistics().renewal_failures for manager in waiting) == 0
        group.cancel_scope.cancel()
