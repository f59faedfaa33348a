"""A regression of the cluster ends every campaign that can detect it. Similar events end none."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from etcdleader import (
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdRegressedError,
    EtcdUnavailableError,
    LeadershipLostError,
    LossReason,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call, FakeClient, Snapshot
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, Recorder, make, until

pytestmark = pytest.mark.anyio

GoBack = Callable[[FakeEtcd, Snapshot], None]


def wiped(etcd: FakeEtcd, backup: Snapshot) -> None:
    """Wipe etcd. It restarts with the same cluster id, member id and raft term."""
    etcd.wipe()


def restored(etcd: FakeEtcd, backup: Snapshot) -> None:
    """Restore a backup. Its keys and leases exist again, with their full time, under a lower raft term."""
    etcd.restore(backup, raft_term=1)


both = pytest.mark.parametrize("go_back", [wiped, restored])


class Outcome:
    """Records how a campaign that runs beside the test ends."""

    def __init__(self, manager: EtcdLeaderManager) -> None:
        self.manager = manager
        self.recorder = Recorder(manager)
        self.error: EtcdRegressedError | None = None
        self.over = anyio.Event()

    async def campaign(self) -> None:
        try:
            await self.manager.campaign()
        except EtcdRegressedError as error:
            self.error = error
        finally:
            self.over.set()

    async def is_regression(self, within: float) -> EtcdRegressedError:
        with anyio.fail_after(within):
            await self.over.wait()
        assert self.error is not None
        return self.error


async def write_more(etcd: FakeEtcd) -> Snapshot:
    """Return a backup that lacks the writes which all managers have seen since."""
    backup = etcd.snapshot()
    for number in range(5):
        etcd.put("elsewhere", str(number))
    await anyio.sleep(2 * CONFIG.renew)
    return backup


@both
@pytest.mark.parametrize("watch", ["works", "is silent"])
async def test_the_leader_and_all_candidates_leave(
    etcd: FakeEtcd, clock: VirtualClock, go_back: GoBack, watch: str
) -> None:
    """Each detects it separately: by the read that follows the broken watch, or by its next renewal."""
    clients = [etcd.client(f"candidate {number}") for number in range(3)]
    outcomes = [Outcome(make(client, clock, client.name)) for client in clients]
    async with anyio.create_task_group() as group:
        for number, outcome in enumerate(outcomes):
            group.start_soon(outcome.campaign)
            await until(lambda: len(etcd.keys()) == number + 1)  # noqa: B023 - awaited in this iteration
        backup = await write_more(etcd)
        known = etcd.revision
        if watch == "is silent":
            for client in clients:
                client.stall_watches()
        go_back(etcd, backup)
        found = etcd.revision
        for outcome in outcomes:
            # A wiped etcd may first report that the lease does not exist. Then the next join detects the regression.
            error = await outcome.is_regression(within=CONFIG.renew + CONFIG.retry + 0.1)
            assert error.known >= known > error.found >= found
            assert not outcome.manager.is_leader()
    (term,) = outcomes[0].recorder.terms
    assert term.loss_reason in {LossReason.REGRESSED, LossReason.REVOKED}
    assert [outcome.recorder.terms for outcome in outcomes[1:]] == [[], []]
    assert [kv.key for kv in etcd.keys().values() if kv.key != b"elsewhere"] == [], "they are out of the queue"


async def test_the_term_of_a_restored_lease_ends_as_regressed(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Key and lease exist again, unchanged.

    A leader that only checked those would lead on, with tokens that go backwards.
    """
    outcome = Outcome(make(etcd, clock))
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.campaign)
        term = await outcome.manager.wait_elected()
        backup = await write_more(etcd)
        await anyio.sleep(CONFIG.renew / 4)  # its renewal is not due yet: the watch reads
        restored(etcd, backup)
        assert term.key.encode() in list(etcd.keys())
        await outcome.is_regression(within=1)
        assert term.loss_reason is LossReason.REGRESSED
    assert outcome.recorder.entries == ["elected", "work cancelled", "ousted: REGRESSED"]


async def test_an_extension_that_meets_a_regression_does_not_extend(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    outcome = Outcome(make(client, clock))
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.campaign)
        term = await outcome.manager.wait_elected()
        backup = await write_more(etcd)
        client.stall_watches()
        restored(etcd, backup)
        with pytest.raises(LeadershipLostError):
            await outcome.manager.extend(term)
        assert term.loss_reason is LossReason.REGRESSED
        await outcome.is_regression(within=1)


@both
@pytest.mark.parametrize("answer", ["comes", "is lost"])
async def test_a_candidate_that_joins_again_leaves(
    etcd: FakeEtcd, clock: VirtualClock, go_back: GoBack, answer: str
) -> None:
    """It happens between the grant and the join. The join itself is applied, and its key must not stay."""
    client = etcd.client()
    outcome = Outcome(make(client, clock))
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.campaign)
        term = await outcome.manager.wait_elected()
        backup = await write_more(etcd)

        def at_the_grant(call: Call) -> None:
            if call.kind == "lease_grant" and call.stage == "after":
                etcd.hooks.remove(at_the_grant)
                go_back(etcd, backup)
                etcd.grant(call.arguments[1], call.arguments[0])
                if answer == "is lost":
                    client.lose_answer("txn")

        etcd.hooks.append(at_the_grant)
        etcd.delete(term.key)
        await outcome.is_regression(within=4 * CONFIG.retry)
        assert outcome.recorder.terms == [term]
    # The backup restored the former key until its lease ends. No client renews that lease.
    assert not etcd.keys().keys() - {b"elsewhere", term.key.encode()}


@both
async def test_a_manager_detects_a_regression_in_its_next_campaign(
    etcd: FakeEtcd, clock: VirtualClock, go_back: GoBack
) -> None:
    """The error is raised until the process is restarted, after an operator has checked.

    A new process has no record, and may lead.
    """
    manager = make(etcd, clock)
    async with manager:
        await manager.wait_elected()
        backup = await write_more(etcd)
    go_back(etcd, backup)
    for _ in range(2):
        with anyio.fail_after(1), pytest.raises(EtcdRegressedError):
            await manager.campaign()
    another = make(etcd, clock, "started anew")
    async with another:
        with anyio.fail_after(CONFIG.lease + 2):
            await another.wait_elected()


async def test_managers_that_share_a_connection_share_the_highest_revision_seen(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The manager that has just begun has received no revision itself."""
    client = etcd.client()
    first = Outcome(make(client, clock))
    async with anyio.create_task_group() as group:
        group.start_soon(first.campaign)
        await first.manager.wait_elected()
        await write_more(etcd)
        client.stall_watches()
        wiped(etcd, etcd.snapshot())
        with anyio.fail_after(1), pytest.raises(EtcdRegressedError):
            await make(client, clock, "b", election="another").campaign()
        await first.is_regression(within=CONFIG.renew + CONFIG.retry)


async def move_to_a_lagging_member(etcd: FakeEtcd, client: FakeClient, *, watches: bool = True) -> None:
    """Connect the client to a member that has not applied all that the client has received."""
    behind = etcd.members[1]
    behind.lag()
    await write_more(etcd)
    if not watches:
        client.stall_watches()
    client.report_endpoint_failure(client.endpoint_number)
    assert client.member is behind
    assert behind.revision < etcd.revision


@pytest.mark.parametrize("place", ["leading", "waiting"])
@pytest.mark.parametrize("heard", ["watch", "lease_keep_alive"])
async def test_headers_of_a_lagging_member_are_no_regression(clock: VirtualClock, place: str, heard: str) -> None:
    """Its watches and keep-alives report what it has applied, which is less than the client has seen.

    Its reads wait.
    """
    async with FakeEtcd(members=2) as etcd:
        client = etcd.client("moved")
        other = make(etcd.client("other", endpoints=etcd.members[:1]), VirtualClock(), "other")
        outcome = Outcome(make(client, clock))
        below: list[int] = []

        def hook(call: Call) -> None:
            if call.client == "moved" and call.kind == heard and client.member.revision < etcd.revision:
                below.append(client.member.revision)

        async with anyio.create_task_group() as group:
            if place == "waiting":
                await group.start(other.campaign)
            group.start_soon(outcome.campaign)
            await until(lambda: etcd.calls["watch"] >= 1 + (place == "waiting"))
            await anyio.sleep(0.5)
            etcd.hooks.append(hook)
            # Otherwise the watch would deliver first and trigger a read. The client would leave that member before its
            # renewal is due.
            await move_to_a_lagging_member(etcd, client, watches=heard != "lease_keep_alive")
            await anyio.sleep(3 * CONFIG.lease)
            assert below
            client.resume_watches()
            etcd.members[1].recover()
            assert outcome.error is None
            if place == "leading":
                assert len(outcome.recorder.terms) == 1
                assert outcome.recorder.terms[0].is_valid()
            else:
                await other.stop()
                await outcome.manager.wait_elected()
            await outcome.manager.stop()


async def test_a_response_overtaken_by_a_newer_one_is_no_regression(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It is compared with the revision known when its request was sent, not with revisions received since."""
    client = etcd.client()
    manager = make(client, clock)
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await manager.leader())

    async with manager.observe() as leaders:  # so that both use one connection
        await anext(leaders)
        client.delay("range", answer=0.5)
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(0.1)
            etcd.put("other", "x")
            await ask()
            assert len(answers) == 1
    assert answers == [None, None]


async def test_a_refusal_common_to_all_members_switches_no_endpoint(clock: VirtualClock) -> None:
    """Another member would respond alike. A switch would break the streams of all users of the connection."""
    async with FakeEtcd(members=3) as etcd:
        client = etcd.client()
        client.refuse("range")
        with pytest.raises(EtcdRefusedError):
            await make(client, clock).leader()
        assert client.calls["report_endpoint_failure"] == 0
        client.fail("range", EtcdUnavailableError("no answer"))
        with pytest.raises(EtcdUnavailableError):
            await make(client, clock).leader()
        assert client.calls["report_endpoint_failure"] == 1
