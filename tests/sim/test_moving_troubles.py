"""Faults in the middle of a move: losses, delays and refusals, and their effects on others on the connection."""

from __future__ import annotations

import anyio
import pytest

from etcdleader import Config, EtcdRefusedError, EtcdUnavailableError, LossReason
from etcdleader._managers.reporter import Reporter
from etcdleader.etcd3 import etcd3
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.crowd import leaders, tokens
from tests.sim.moving import moves_in
from tests.sim.world import CONFIG, Recorder, leading, make, until

pytestmark = pytest.mark.anyio


async def test_extend_during_a_move_does_not_fail(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """etcd answers every request. Only the response to the move's transaction is slow."""
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        sent = anyio.Event()

        async def slow(call: Call) -> None:
            if list(moves_in(call)) and call.stage == "after":
                sent.set()
                await anyio.sleep(0.5)

        etcd.hooks.append(slow)
        etcd.change_leader()
        await sent.wait()
        await anyio.sleep(0.01)
        await manager.extend(term)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_request_to_step_down_between_a_move_and_its_response_is_not_lost(
    etcd: FakeEtcd, clock: VirtualClock, times: int
) -> None:
    """The watch works all the time."""
    client = etcd.client()
    async with leading(client, clock) as (_, term):
        asked = 0

        async def ask(call: Call) -> None:
            nonlocal asked
            if list(moves_in(call)) and call.stage == "after" and asked < times:
                asked += 1
                await anyio.sleep(0.1)
                if asked == 1:
                    etcd.request_step_down(term.key)
                await anyio.sleep(0.1)

        etcd.hooks.append(ask)
        etcd.change_leader()
        await until(lambda: asked)
        await until(lambda: term.loss_reason is LossReason.RESIGNED, timeout=2 * CONFIG.lease)


async def test_a_slow_grant_of_one_session_does_not_end_the_leadership_of_another(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    client.uniform = lambda low, high: low  # all moves are due at once
    patient = Config(enabled=True, id="patient", lease=60, renew=15, retry=20, margin=1)
    long, short = make(client, clock, election="long", config=patient), make(client, clock, election="short")
    async with long, short:
        one, other = await long.wait_elected(), await short.wait_elected()
        grants = 0

        async def hang(call: Call) -> None:
            nonlocal grants
            if call.kind == "lease_grant" and call.stage == "after" and call.arguments[0] == 60 and not grants:
                grants += 1
                await anyio.sleep(19)

        etcd.hooks.append(hang)
        etcd.change_leader()
        await anyio.sleep(30)
        assert grants == 1
        assert one.is_valid()
        assert other.is_valid()


async def test_a_transaction_does_not_apply_the_failure_branch_while_the_term_is_valid(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The move was applied and its responses are lost."""
    client = etcd.client()
    config = Config(enabled=True, id="x", lease=30, renew=10, retry=2, margin=1)
    done, failed = etcd3.transactions.Put("done", "x"), etcd3.transactions.Put("failed", "x")
    manager = make(client, clock, config=config)
    async with manager:
        term = await manager.wait_elected()
        hung = anyio.Event()

        async def hang(call: Call) -> None:
            if list(moves_in(call)) and call.stage == "after":
                hung.set()
                await anyio.sleep_forever()

        etcd.hooks.append(hang)
        etcd.change_leader()
        await hung.wait()
        try:
            with anyio.fail_after(20):
                await term.transaction([done], [failed])
        except EtcdUnavailableError:
            pass
        finally:
            etcd.hooks.remove(hang)
        assert term.is_valid()
        assert b"failed" not in etcd.keys()


async def test_one_forbidden_key_does_not_delay_the_moves_of_the_others(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """etcd refuses the batch, and then loses the first request of each key that is sent alone."""
    client = etcd.client()
    client.uniform = lambda low, high: low  # all moves are due at once
    async with leaders(client, clock, 12) as managers:
        led = tokens(managers)
        assert managers[0].term is not None
        forbidden = managers[0].term.key.encode()
        lost: set[bytes] = set()

        async def hook(call: Call) -> None:
            if call.stage != "before":
                return
            keys = [key for key, _ in moves_in(call)]
            if forbidden in keys:
                raise EtcdRefusedError("permission denied")
            if len(keys) == 1 and keys[0] not in lost:
                lost.add(keys[0])
                await anyio.sleep_forever()

        etcd.hooks.append(hook)
        etcd.change_leader()
        await anyio.sleep(2 * CONFIG.lease)
        assert tokens(managers)[1:] == led[1:]


async def test_no_space_in_the_middle_leaves_the_next_in_line_able_to_lead(etcd: FakeEtcd, clock: VirtualClock) -> None:
    first, second = make(etcd, clock, "a"), make(etcd, clock, "b")
    async with first:
        await first.wait_elected()
        async with second:
            await until(lambda: second.statistics().queue_position == 1)
            etcd.no_space = True
            etcd.change_leader()
            await anyio.sleep(5 * CONFIG.lease)
            etcd.no_space = False
            with anyio.fail_after(CONFIG.lease):
                while not (first.is_leader() or second.is_leader()):
                    await anyio.sleep(0.1)
            assert second.statistics().queue_position == 0


async def test_one_lost_response_in_a_late_move_ends_no_leadership(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """`renew + 2 * retry + margin` equals the lease, the minimum that is allowed."""
    client = etcd.client()
    client.uniform = lambda low, high: high  # all moves come as late as they can
    tight = Config(enabled=True, id="tight", lease=10, renew=7, retry=1, margin=1)
    manager = make(client, clock, config=tight)
    async with manager:
        term = await manager.wait_elected()
        await anyio.sleep(6.95)
        client.lose_answer("lease_grant", times=1)
        etcd.change_leader()
        await anyio.sleep(20)
        assert term.is_valid()


async def test_an_extension_that_cannot_move_names_the_cause(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leading(client, clock) as (manager, term):
        etcd.no_space = True
        etcd.change_leader()
        with pytest.raises(EtcdUnavailableError, match="space"):
            await manager.extend(term)


async def test_etcd_without_a_leader_in_the_middle_of_a_move_ends_no_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    async with leading(client, clock) as (_manager, term):
        armed = True

        def lose(call: Call) -> None:
            nonlocal armed
            if list(moves_in(call)) and call.stage == "before" and armed:
                armed = False
                etcd.lose_leader()

        etcd.hooks.append(lose)
        etcd.change_leader()
        await until(lambda: not armed)
        await anyio.sleep(1.5)
        etcd.change_leader()
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


async def test_a_permission_lost_and_restored_during_a_move_ends_no_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client("a")
    async with leading(client, clock) as (_manager, term):
        refuse = True

        def hook(call: Call) -> None:
            if refuse and call.stage == "before" and list(moves_in(call)):
                raise EtcdRefusedError("permission denied")

        etcd.hooks.append(hook)
        etcd.change_leader()
        await anyio.sleep(4.5)
        refuse = False
        await anyio.sleep(2 * CONFIG.lease)
        assert term.is_valid()


async def test_a_batch_whose_sessions_were_all_lost_sends_nothing(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.uniform = lambda low, high: low  # all moves are due at once
    empty = 0
    first: list[int] = []
    armed = False

    async def hook(call: Call) -> None:
        nonlocal empty
        if call.kind == "txn" and call.stage == "before" and not any(call.arguments):
            empty += 1
        if call.kind == "lease_grant" and call.stage == "before" and armed:
            first.append(call.arguments[1])
            if len(first) == 2:
                await anyio.sleep(0.3)
                raise EtcdUnavailableError("no")

    etcd.hooks.append(hook)
    async with leaders(client, clock, 2) as managers:
        keys = [term.key for manager in managers if (term := manager.term) is not None]
        armed = True
        etcd.change_leader()
        await until(lambda: len(first) == 2, timeout=5)
        await anyio.sleep(0.1)
        for key in keys:
            etcd.delete(key)
        await anyio.sleep(1)
        assert not empty


async def test_a_bug_in_one_move_affects_one_key_only(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds now and at the next change of etcd's leader."""
    client = etcd.client()
    real, times = Reporter.lease_moved, 0

    def broken(self: Reporter, lease_id: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("a bug in the library")
        real(self, lease_id)

    monkeypatch.setattr(Reporter, "lease_moved", broken)
    async with leaders(client, clock, 10) as managers:
        led = tokens(managers)
        for _ in range(2):
            etcd.change_leader()
            await anyio.sleep(CONFIG.lease)
        kept = [one == other for one, other in zip(tokens(managers), led, strict=True)]
        assert kept.count(False) == 1


@pytest.mark.parametrize("elections", [("long", "short"), ("short", "long")])
async def test_a_lost_move_delays_each_session_by_its_own_retry_only(
    etcd: FakeEtcd, clock: VirtualClock, elections: tuple[str, str]
) -> None:
    """The next attempt of a session with a short `retry` does not wait for a session with a long one."""
    client = etcd.client()
    client.uniform = lambda low, high: low  # all moves are due at once
    patient = Config(enabled=True, id="patient", lease=60, renew=15, retry=20, margin=1)
    configs = {"long": patient, "short": CONFIG}
    first, second = (make(client, clock, election=election, config=configs[election]) for election in elections)
    async with first, second:
        one, other = await first.wait_elected(), await second.wait_elected()
        lost = 0

        async def lose(call: Call) -> None:
            nonlocal lost
            if call.stage == "before" and lost < 2 and list(moves_in(call)):
                lost += 1
                await anyio.sleep_forever()

        etcd.hooks.append(lose)
        etcd.change_leader()
        await anyio.sleep(30)
        assert lost == 2
        assert one.is_valid()
        assert other.is_valid()


async def test_the_key_of_work_that_never_ends_is_not_moved_forever(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It keeps its key for one more lease. etcd's leader changes after that."""
    manager = make(etcd, clock)
    release = anyio.Event()

    async def work(manager: object, term: object) -> None:
        with anyio.CancelScope(shield=True):
            await release.wait()

    manager.on_elected(work)
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        term = await manager.wait_elected()
        group.start_soon(manager.stop)
        await anyio.sleep(CONFIG.lease + 1)
        etcd.change_leader()
        await anyio.sleep(CONFIG.lease + 3)
        assert term.key.encode() not in etcd.keys()
        assert manager.statistics().lease_moves == 0
        release.set()


async def test_moves_that_fail_are_one_outage_that_grows_serious(
    etcd: FakeEtcd, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile renewals find that the lease exists. That does not end the outage."""
    client = etcd.client()
    config = Config(enabled=True, id="x", lease=60, renew=5, retry=2, margin=1)
    manager = make(client, clock, config=config)
    recorder = Recorder(manager)
    async with manager:
        term = await manager.wait_elected()
        etcd.no_space = True
        etcd.change_leader()
        await anyio.sleep(50)
        assert term.is_valid()
        assert len(recorder.errors) == 1
        assert [record.levelname for record in caplog.records if record.name == "etcdleader"].count("ERROR") == 1


async def test_concurrent_grants_request_the_raft_term_once(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = etcd.client()
    client.latency = 0.01
    real, asked = client.member_raft_term, 0

    async def count(key: bytes, *, timeout: float) -> int:
        nonlocal asked
        asked += 1
        return await real(key, timeout=timeout)

    monkeypatch.setattr(client, "member_raft_term", count)
    async with leaders(client, clock, 100):
        assert asked == 1
