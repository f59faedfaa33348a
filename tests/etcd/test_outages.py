"""An etcd that is down, frozen or wiped: how long the leader is valid, and when there is one again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from etcdleader import (
    Config,
    EtcdLeaderManager,
    EtcdRegressedError,
    EtcdUnavailableError,
    LeaderManager,
    LeadershipLostError,
    LossReason,
)
from etcdleader._etcd import endpoint
from etcdleader._etcd.rpcs import Rpc
from etcdleader._etcd.stream import Http2Stream
from etcdleader._lease import shared_connection as connections
from etcdleader._runtime.clock import boottime
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from etcdleader.testing.etcd_server import EtcdMember
from tests.helpers.answered import answered
from tests.helpers.stand_stills import stand_stills

pytestmark = pytest.mark.anyio

SHORT = Config(enabled=True, id="outages", lease=4, renew=0.5, retry=0.25, margin=1)
"""For outages that outlast it."""
LONG = Config(enabled=True, id="outages", lease=60, renew=0.25, retry=0.25)
"""For those that do not."""
LAZY = Config(enabled=True, id="outages", lease=60, renew=20, retry=0.25)
"""Here only the watch can be what noticed."""
PATIENCE = 60

Make = Callable[[Config], EtcdLeaderManager]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd for this file alone, since it is killed, frozen and wiped."""
    # A single member waits for no votes, so a short election timeout only shortens its starts.
    with EtcdServer(extra_args=["--heartbeat-interval=20", "--election-timeout=200"]) as server:
        yield server


@pytest.fixture
def member(server: EtcdServer) -> Iterator[EtcdMember]:
    (member,) = server.members
    yield member
    if member.running:
        member.resume()
    else:
        member.restart()


@pytest.fixture
def make(server: EtcdServer, election_key: str) -> Make:
    return lambda config: EtcdLeaderManager(server.config, config, election_key)


class Life:
    """A record of what a manager's callbacks received, and when."""

    def __init__(self, manager: LeaderManager) -> None:
        self.manager = manager
        self.errors: list[Exception] = []
        self.tokens: list[int] = []
        self.lost: list[tuple[LossReason | None, float]] = []
        manager.on_elected(lambda manager, term: self.tokens.append(term.token))
        manager.on_ousted(lambda manager, term: self.lost.append((term.loss_reason, boottime())))
        manager.on_error(lambda manager, error: self.errors.append(error))

    async def renewed(self) -> None:
        """Wait for two more confirmed renewals: the second one began after this call."""
        wanted = self.manager.statistics().renewals + 2
        await until(lambda: self.manager.statistics().renewals >= wanted)

    async def in_trouble(self) -> None:
        """Wait until two more attempts to renew have failed."""
        wanted = self.manager.statistics().renewal_failures + 2
        await until(lambda: self.manager.statistics().renewal_failures >= wanted)


async def until(holds: Callable[[], Any]) -> None:
    """Ask again and again, until it holds."""
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.005)


async def restart(member: EtcdMember) -> None:
    await anyio.to_thread.run_sync(member.restart)


async def wipe(member: EtcdMember) -> None:
    """Kill it and start it as if for the first time: the same cluster, without its history."""
    member.kill()
    shutil.rmtree(member.data_dir)
    await restart(member)


@contextmanager
def operator(server: EtcdServer) -> Iterator[Any]:
    host, _, port = server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    try:
        yield client
    finally:
        client.close()


def watches() -> int:
    """Return the number of watches that etcd has created on the connection and that have not broken."""
    (connection,) = connections._pool.values()
    return len(vars(connection.api)["_watches"]._by_id)


def fill(server: EtcdServer, election_key: str) -> None:
    """Give etcd a history: revisions that a wiped one does not come to soon."""
    with operator(server) as client:
        for number in range(50):
            client.put(f"{election_key}-filler", str(number))


async def test_a_candidate_started_before_etcd_is_elected_once_it_runs(make: Make, member: EtcdMember) -> None:
    member.kill()
    manager = make(LONG)
    life = Life(manager)
    async with manager:
        await until(lambda: life.errors)
        assert manager.term is None
        await restart(member)
        with anyio.fail_after(PATIENCE):
            assert (await manager.wait_elected()).is_valid()
    assert all(isinstance(error, EtcdUnavailableError) for error in life.errors)


async def test_a_restart_within_the_lease_costs_nothing(make: Make, member: EtcdMember) -> None:
    """The key, the lease and the term are the same ones afterwards."""
    manager = make(LONG)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        member.kill()
        await life.in_trouble()
        assert manager.term is term
        await restart(member)
        await life.renewed()
        assert manager.term is term
        with anyio.fail_after(PATIENCE):
            leader = await answered(manager.leader)
        assert leader is not None
        assert (leader.key, leader.token, leader.lease_id) == (term.key, term.token, term.lease_id)
    assert life.tokens == [term.token]
    assert [reason for reason, _ in life.lost] == [LossReason.STOPPED]


async def test_after_a_restart_the_watch_goes_on(make: Make, server: EtcdServer, member: EtcdMember) -> None:
    manager = make(LAZY)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await until(watches)
        member.kill()
        await until(lambda: life.errors and not watches())
        await restart(member)
        await until(watches)
        assert manager.term is term
        with operator(server) as client:
            client.delete(term.key)
        with anyio.fail_after(10):
            await until(lambda: life.lost)
        assert manager.statistics().renewals == 0
    assert life.lost[0][0] is LossReason.DELETED


async def test_stop_returns_while_etcd_is_frozen(make: Make, member: EtcdMember) -> None:
    """The release cannot reach etcd: the lease has to run out, and `stop()` must not wait for that."""
    manager = make(LONG)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        member.pause()
        with anyio.fail_after(PATIENCE):
            await manager.stop()
        assert not term.is_valid()
        assert term.loss_reason is LossReason.STOPPED


async def test_extend_raises_that_etcd_is_down_and_the_term_stays(make: Make, member: EtcdMember) -> None:
    manager = make(LONG)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            member.kill()
            for _ in range(3):
                with pytest.raises(EtcdUnavailableError):
                    await manager.extend(term)
                assert manager.term is term
            await restart(member)
            await life.renewed()
            assert await answered(lambda: manager.extend(term)) is term


@pytest.mark.parametrize("fault", ["killed", "frozen", "frozen until the deadline"])
async def test_an_outage_longer_than_the_lease_ends_the_term_before_the_lease_and_then_there_is_a_new_one(
    make: Make, member: EtcdMember, election_key: str, fault: str
) -> None:
    """When a frozen etcd continues, it answers old requests. None of these answers may count, even if it continues while
    a renewal still waits for its answer."""
    manager = make(SHORT)
    life = Life(manager)
    async with stand_stills() as stood_still, manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            with pytest.raises(LeadershipLostError):
                async with manager.leading():
                    await life.renewed()
                    if fault == "killed":
                        member.kill()
                    else:
                        member.pause()
                    age = manager.statistics().last_renewal_age
                    assert age is not None
                    confirmed_at = boottime() - age
                    await anyio.sleep_forever()
        if fault == "frozen until the deadline":
            member.resume()
        await until(lambda: life.lost)
        ((reason, lost_at),) = life.lost
        assert reason is LossReason.EXPIRED
        # No work can be done while this process stands still, so its end may be later by that time.
        assert lost_at < confirmed_at + SHORT.lease + stood_still.after(confirmed_at)
        assert lost_at - confirmed_at > SHORT.lease - SHORT.margin - 0.1  # and not at the first failure
        if fault == "killed":
            await restart(member)
        elif fault == "frozen":
            await anyio.sleep(confirmed_at + SHORT.lease + 0.2 - boottime())
            member.resume()
        await until(lambda: term.is_valid() or len(life.tokens) > 1)
        assert not term.is_valid()
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()
            late = etcd3.Transactions().put(f"{election_key}-data", "late")
            assert not (await answered(lambda: term.transaction([late])))[0]
    assert len(life.tokens) == 2
    assert life.tokens[1] > life.tokens[0] == term.token
    assert all(isinstance(error, EtcdUnavailableError) for error in life.errors)


async def test_a_freeze_longer_than_retry_costs_streams_and_not_the_term(
    make: Make, member: EtcdMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keep-alive's answer says nothing of which one it answers, so after a lost one the stream is of no use."""
    opened: list[str] = []

    class CountedStream(Http2Stream):
        def __init__(self, method: Rpc[Any, Any], *args: Any, **options: Any) -> None:
            opened.append(method.name)
            super().__init__(method, *args, **options)

    monkeypatch.setattr(endpoint, "Http2Stream", CountedStream)
    manager = make(LONG)
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
        await life.renewed()
        before = opened.count("keep-alives")
        assert before > 0
        member.pause()
        await life.in_trouble()
        assert manager.term is term
        member.resume()
        await life.renewed()
        assert opened.count("keep-alives") > before
        assert manager.term is term
    assert life.tokens == [term.token]


async def test_a_wiped_etcd_ends_the_leaders_campaign(
    make: Make, server: EtcdServer, member: EtcdMember, election_key: str
) -> None:
    """Its tokens would begin again from below, so a person has to look; a new process has no memory, and may lead."""
    fill(server, election_key)
    manager = make(LONG)
    life = Life(manager)
    with anyio.fail_after(PATIENCE):
        with pytest.raises(EtcdRegressedError):
            async with manager:
                term = await manager.wait_elected()
                await wipe(member)
                await anyio.sleep_forever()
        assert not term.is_valid()
        assert [reason for reason, _ in life.lost] in ([LossReason.REGRESSED], [LossReason.REVOKED])
        # The manager has recorded it; a new one has not.
        with pytest.raises(EtcdRegressedError):
            await manager.campaign()
        assert life.tokens == [term.token]
        async with make(LONG) as fresh:
            assert (await fresh.wait_elected()).token < term.token


async def test_a_wiped_etcd_ends_a_waiting_candidates_campaign(
    make: Make, server: EtcdServer, member: EtcdMember, election_key: str
) -> None:
    """Without the leader's key, no candidate is before it."""
    fill(server, election_key)
    leader, waiting = make(LONG), make(LONG)
    life = Life(waiting)

    async def lead() -> None:
        with pytest.raises(EtcdRegressedError):
            await leader.campaign()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(lead)
            await leader.wait_elected()
            with pytest.raises(EtcdRegressedError):
                async with waiting:
                    while len(await answered(waiting.candidates)) < 2:
                        await anyio.sleep(0.01)
                    await wipe(member)
                    await anyio.sleep_forever()
    assert life.tokens == []
