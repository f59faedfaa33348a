"""An operator changes candidate keys by hand, on a real etcd: the watch reports it, and there is never a second leader.

The lease is six minutes and is renewed every quarter of it, so that what is noticed sooner was not noticed by a renewal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from etcdleader import (
    Config,
    EtcdLeaderManager,
    LeaderManager,
    LeaderRecord,
    LeadershipLostError,
    LeaderStatus,
    LossReason,
    Term,
)
from etcdleader._etcd.client import EtcdClient
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import EtcdServer
from tests.helpers.answered import answered

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="by-hand", lease=360, renew=90, retry=1)
PATIENCE = 60
"""Less than ``renew``."""

Make = Callable[[], EtcdLeaderManager]
Act = Callable[[Any, LeaderRecord], object]


@pytest.fixture
def make(etcd_server: EtcdServer, election_key: str) -> Make:
    return lambda: EtcdLeaderManager(etcd_server.config, CONFIG, election_key)


class Life:
    """A record of the events that a manager's work and callbacks received."""

    def __init__(self, manager: LeaderManager) -> None:
        self.entries: list[str] = []
        self.tokens: list[int] = []
        self.ousted = anyio.Event()
        self._manager = manager
        manager.on_elected(self._elected)
        manager.on_ousted(self._ousted)

    async def _elected(self, manager: LeaderManager, term: Term) -> None:
        self.tokens.append(term.token)
        await self.work("callback", to_end=0.02)

    async def work(self, name: str, *, to_end: float) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.entries.append(f"{name} {'interrupted' if self._manager.is_leader() else 'cancelled'}")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(to_end)  # it takes a while to put its tools away
            self.entries.append(f"{name} ended")

    def _ousted(self, manager: LeaderManager, term: Term) -> None:
        self.entries.append(f"ousted, {manager.status.name}, {term.loss_reason.name if term.loss_reason else None}")
        self.ousted.set()


def delete(operator: Any, record: LeaderRecord) -> None:
    operator.delete(record.key)


def revoke(operator: Any, record: LeaderRecord) -> None:
    operator.revoke_lease(record.lease_id)


def put_on_another_lease(operator: Any, record: LeaderRecord) -> None:
    operator.put(record.key, record.identity, lease=operator.lease(600))


def put_without_lease(operator: Any, record: LeaderRecord) -> None:
    operator.put(record.key, record.identity)


def put_another_value(operator: Any, record: LeaderRecord) -> None:
    operator.put(record.key, "thief", lease=record.lease_id)


def delete_and_put(operator: Any, record: LeaderRecord) -> None:
    operator.delete(record.key)
    operator.put(record.key, record.identity, lease=record.lease_id)


def delete_and_put_without_lease(operator: Any, record: LeaderRecord) -> None:
    operator.delete(record.key)
    operator.put(record.key, record.identity)


ACTS = [
    delete,
    revoke,
    put_on_another_lease,
    put_without_lease,
    put_another_value,
    delete_and_put,
    delete_and_put_without_lease,
]
LEAVE_A_FOREIGN_KEY = (put_on_another_lease, put_without_lease, delete_and_put_without_lease)


async def record_of(manager: EtcdLeaderManager, *, other_than: str = "") -> LeaderRecord:
    """Ask etcd until this candidate stands in the queue, with another key than that."""
    while True:
        for record in await answered(manager.candidates):
            if record.identity == manager.identity and record.key != other_than and record.lease_id:
                return record
        await anyio.sleep(0.01)


async def watching(count: int) -> None:
    """Wait until etcd has created so many watches, and so sends all events. Otherwise a first read would show the key."""
    (connection,) = connections._pool.values()
    assert isinstance(connection.api, EtcdClient)
    while len(connection.api._watches._by_id) < count:
        await anyio.sleep(0.005)


@pytest.mark.parametrize("act", ACTS)
async def test_a_leader_whose_key_was_touched_stops_at_once_and_leads_again_with_a_higher_token(
    make: Make, operator: Any, election_key: str, act: Act
) -> None:
    manager = make()
    life = Life(manager)
    put = operator.transactions.put(f"{election_key}-data", "late")
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            assert (await answered(lambda: term.transaction([put])))[0]
            await watching(1)
            record = await record_of(manager)
            with pytest.raises(LeadershipLostError):
                async with manager.leading():
                    act(operator, record)
                    await life.work("block", to_end=0.1)
            await life.ousted.wait()
        assert manager.statistics().renewals == 0
        assert not term.is_valid()
        assert term.loss_reason is LossReason.DELETED
        with anyio.fail_after(PATIENCE):
            again = await record_of(manager, other_than=term.key)
            assert not (await answered(lambda: term.transaction([put])))[0]
            assert not operator.transaction(compare=[*term.guard()], success=[put], failure=[])[0]
            assert (operator.get(term.key)[0] is not None) is (act in LEAVE_A_FOREIGN_KEY)
            if act in LEAVE_A_FOREIGN_KEY:
                # It is another candidate's key, in front of this one. This candidate must not remove it.
                assert not manager.is_leader()
                assert life.tokens == [term.token]
                operator.delete(term.key)
            new = await manager.wait_elected()
        assert (new.key, new.token) == (again.key, again.token)
        assert new.token > term.token
        assert new.lease_id != term.lease_id
        assert not term.is_valid()
        assert sorted(life.entries[:-1]) == ["block cancelled", "block ended", "callback cancelled", "callback ended"]
        assert life.entries[-1] == "ousted, OUSTED, DELETED"


@pytest.mark.parametrize("act", ACTS)
async def test_changes_before_the_leaders_watch_is_created_are_noticed_too(make: Make, operator: Any, act: Act) -> None:
    """Between the win and etcd's creation of the watch lies a round trip. The watch reports no event of that time."""
    manager = make()
    life = Life(manager)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            # Nothing is awaited between the two: the request for the watch has not left yet.
            act(operator, LeaderRecord(term.identity, term.token, term.key, term.lease_id))
            await life.ousted.wait()
        assert manager.statistics().renewals == 0
        assert term.loss_reason is LossReason.DELETED
        operator.delete(term.key)


@pytest.mark.parametrize("act", [delete, revoke, put_on_another_lease, put_without_lease, delete_and_put_without_lease])
async def test_a_broken_guard_refuses_the_next_write_even_before_the_leader_is_notified(
    make: Make, operator: Any, election_key: str, act: Act
) -> None:
    """The loop does not run between the two calls, so this process cannot detect it."""
    manager = make()
    put = operator.transactions.put(f"{election_key}-data", "late")
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            record = await record_of(manager)
            assert operator.transaction(compare=[*term.guard()], success=[put], failure=[])[0]
            act(operator, record)
            assert not operator.transaction(compare=[*term.guard()], success=[put], failure=[])[0]


@pytest.mark.parametrize("place", ["next in line", "third"])
@pytest.mark.parametrize("act", ACTS)
async def test_a_candidate_whose_key_was_changed_rejoins_and_never_wins_on_the_old_key(
    make: Make, operator: Any, election_key: str, act: Act, place: str
) -> None:
    first, waiting = make(), make()
    life = Life(waiting)
    between = f"{election_key}/between"
    async with first:
        with anyio.fail_after(PATIENCE):
            await first.wait_elected()
            if place == "third":
                operator.put(between, "somebody")
        async with waiting:
            with anyio.fail_after(PATIENCE):
                dead = await record_of(waiting)
                await watching(3 if place == "third" else 2)
                assert waiting.statistics().queue_position == (2 if place == "third" else 1)
                act(operator, dead)
                again = await record_of(waiting, other_than=dead.key)
            assert waiting.statistics().renewals == 0
            assert again.token > dead.token
            with anyio.fail_after(PATIENCE):
                await first.stop()
                operator.delete(between)
                if act in LEAVE_A_FOREIGN_KEY:
                    leader = await answered(waiting.leader)
                    assert leader is not None
                    assert leader.key == dead.key
                    assert life.tokens == []
                    operator.delete(dead.key)
                term = await waiting.wait_elected()
                await anyio.wait_all_tasks_blocked()
    assert (term.key, term.token) == (again.key, again.token)
    assert life.tokens == [term.token]


async def test_when_the_whole_queue_is_deleted_all_candidates_rejoin(
    make: Make, operator: Any, election_key: str
) -> None:
    """One revision deletes the leader's key and the next one's, which must not take it for its turn."""
    managers = [make() for _ in range(3)]
    lives = [Life(manager) for manager in managers]
    leader, *others = managers
    async with leader:
        with anyio.fail_after(PATIENCE):
            term = await leader.wait_elected()
        async with others[0], others[1]:
            with anyio.fail_after(PATIENCE):
                before = [await record_of(manager) for manager in managers]
                newest = max(record.token for record in before)
                await watching(4)  # the third one has two
                operator.delete_prefix(f"{election_key}/")
                after = [
                    await record_of(manager, other_than=old.key) for manager, old in zip(managers, before, strict=True)
                ]
                await lives[0].ousted.wait()
                assert all(record.token > newest for record in after)
                first = min(after, key=lambda record: record.token)
                new = await managers[after.index(first)].wait_elected()
                assert new.token == first.token
            assert [manager.statistics().renewals for manager in managers] == [0, 0, 0]
    assert term.loss_reason is LossReason.DELETED
    assert lives[0].entries[:3] == ["callback cancelled", "callback ended", "ousted, OUSTED, DELETED"]
    tokens = [token for life in lives for token in life.tokens]
    assert len(tokens) == len(set(tokens))
    assert all(token == term.token or token > newest for token in tokens)


async def test_a_foreign_key_without_lease_in_front_holds_leadership_until_it_is_deleted(
    make: Make, operator: Any, election_key: str
) -> None:
    """No lease ends it, so every query for the leader must show it. The library does not remove another candidate's key."""
    operator.put(f"{election_key}/zzz", "somebody")
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            ours = await record_of(manager)
            leader = await answered(manager.leader)
            assert leader is not None
            assert (leader.identity, leader.lease_id, leader.key) == ("somebody", 0, f"{election_key}/zzz")
            assert leader.token < ours.token
            assert manager.status is LeaderStatus.INIT
            await watching(1)
            operator.delete(f"{election_key}/zzz")
            term = await manager.wait_elected()
        assert manager.statistics().renewals == 0
        assert term.token == ours.token


async def test_a_foreign_key_put_behind_the_leader_leads_after_it(make: Make, operator: Any, election_key: str) -> None:
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            operator.put(f"{election_key}/0", "somebody")  # first by name, last by creation
            assert await answered(lambda: manager.extend(term)) is term
            await manager.resign()
            again = await record_of(manager, other_than=term.key)
            leader = await answered(manager.leader)
            assert leader is not None
            assert leader.identity == "somebody"
            assert not manager.is_leader()
            operator.delete(f"{election_key}/0")
            assert (await manager.wait_elected()).token == again.token
        assert again.token > leader.token > term.token


async def ask_to_step_down(server: EtcdServer, key: str) -> None:
    """Request it as an operator can without etcdleader."""
    await anyio.run_process(
        [str(server.etcdctl), f"--endpoints={server.endpoints[0]}", "put", "--ignore-value", "--ignore-lease", key]
    )


async def test_a_key_that_was_put_below_the_prefix_is_reported_as_what_blocks_the_election(
    make: Make, operator: Any, election_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = f"{election_key}/last"
    operator.put(blocker, "x")
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            await record_of(manager)
            await watching(1)
            assert not manager.health().ready
            assert blocker in manager.health().reason
            assert sum(blocker in record.message for record in caplog.records) == 1
            operator.delete(blocker)
            term = await manager.wait_elected()
            for key in (blocker, term.key):
                with pytest.raises(ValueError, match="below the prefix"):
                    await term.transaction([operator.transactions.put(key, "x")])
        assert term.is_valid()


async def test_an_operators_put_that_changes_nothing_makes_the_leader_resign(
    make: Make, operator: Any, etcd_server: EtcdServer, election_key: str
) -> None:
    leader, waiting = make(), make()
    life = Life(leader)
    put = operator.transactions.put(f"{election_key}-data", "late")
    async with leader:
        with anyio.fail_after(PATIENCE):
            term = await leader.wait_elected()
        async with waiting:
            with anyio.fail_after(PATIENCE):
                await record_of(waiting)
                await watching(2)
                await ask_to_step_down(etcd_server, term.key)
                successor = await waiting.wait_elected()
                assert life.entries == ["callback cancelled", "callback ended", "ousted, OUSTED, RESIGNED"]
                assert not (await answered(lambda: term.transaction([put])))[0]
                assert not operator.transaction(compare=[*term.guard()], success=[put], failure=[])[0]
                back = await record_of(leader, other_than=term.key)
            assert back.token > successor.token > term.token
            assert successor.is_valid()


async def test_an_operators_request_to_a_waiting_candidate_lets_it_queue_again(
    make: Make, operator: Any, etcd_server: EtcdServer
) -> None:
    leader, waiting = make(), make()
    async with leader:
        with anyio.fail_after(PATIENCE):
            await leader.wait_elected()
        async with waiting:
            with anyio.fail_after(PATIENCE):
                record = await record_of(waiting)
                await watching(2)
                await ask_to_step_down(etcd_server, record.key)
                again = await record_of(waiting, other_than=record.key)
                assert again.token > record.token
                assert leader.is_leader()
                await leader.resign()
                term = await waiting.wait_elected()
                assert (term.key, term.token) == (again.key, again.token)
                assert await answered(lambda: waiting.extend(term)) is term
