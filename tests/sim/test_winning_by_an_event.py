"""The next in line wins by its predecessor's DELETE alone.

These are the cases in which it must not: a read comes first, or no candidate wins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from etcdleader import EtcdLeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call, FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, ELECTION, Recorder, make, until

pytestmark = pytest.mark.anyio


@dataclass
class Next:
    """The next in line, behind a leader.

    Attributes:
        own: Its key.
        read_at: The times at which its reads of the queue were done.
    """

    etcd: FakeEtcd
    leader: Term
    manager: EtcdLeaderManager
    client: FakeClient
    own: str
    recorder: Recorder
    read_at: list[float]

    def break_the_watch(self, *, compact: bool) -> None:
        """Break its watch, and let changes happen that it does not receive."""
        self.client.partition()
        self.client.break_streams()
        for number in range(10):
            self.etcd.put(f"{ELECTION}2/{number}")
        if compact:
            self.etcd.compact()


@asynccontextmanager
async def next_in_line(etcd: FakeEtcd, clock: VirtualClock) -> AsyncIterator[Next]:
    client = etcd.client("next")
    first, manager = make(etcd, VirtualClock(), "first"), make(client, clock)
    recorder, read_at = Recorder(manager), list[float]()

    def note(call: Call) -> None:
        if call.client == "next" and call.kind == "range" and call.stage == "after" and call.arguments[0].range_end:
            read_at.append(anyio.current_time())

    async with first:
        leader = await first.wait_elected()
        async with manager:
            await until(lambda: client.calls["watch"] == 1)
            await anyio.sleep(0.2)
            own = next(key.decode() for key in etcd.keys() if key != leader.key.encode())
            etcd.hooks.append(note)
            yield Next(etcd, leader, manager, client, own, recorder, read_at)


@pytest.mark.parametrize("compact", [False, True], ids=["broken", "compacted"])
async def test_after_a_gap_in_the_watch_the_predecessors_deletion_elects_no_candidate_before_a_read(
    etcd: FakeEtcd, clock: VirtualClock, *, compact: bool
) -> None:
    """The DELETE arrives on a watch that was created again, while the response to the read is still in flight."""
    async with next_in_line(etcd, clock) as candidate:
        candidate.break_the_watch(compact=compact)
        candidate.client.heal()
        candidate.client.delay("range", answer=0.8)
        await until(lambda: candidate.client.calls["watch"] == 2)
        await anyio.sleep(0.2)
        etcd.delete(candidate.leader.key)
        await anyio.sleep(0.3)
        assert not candidate.manager.is_leader()
        term = await candidate.manager.wait_elected()
        assert anyio.current_time() >= candidate.read_at[0] + 0.8
        assert term.key == candidate.own


@pytest.mark.parametrize("compact", [False, True], ids=["broken", "compacted"])
async def test_a_candidate_that_lost_its_key_in_a_gap_does_not_win_by_later_events(
    etcd: FakeEtcd, clock: VirtualClock, *, compact: bool
) -> None:
    """This holds whether its own DELETE is delivered late or, because of a compaction, never."""
    async with next_in_line(etcd, clock) as candidate:
        candidate.client.partition()
        candidate.client.break_streams()
        etcd.delete(candidate.own)
        candidate.break_the_watch(compact=compact)
        candidate.client.heal()
        candidate.client.delay("range", answer=0.8, times=2)
        await anyio.sleep(0.3)
        etcd.delete(candidate.leader.key)
        await anyio.sleep(2 * CONFIG.lease)
        assert not candidate.recorder.terms
        assert not candidate.manager.is_leader()
        assert sum(key.startswith(f"{ELECTION}/".encode()) for key in etcd.keys()) == 2, "it stands again, behind"


async def test_a_late_watch_elects_no_candidate_before_a_read(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """It begins at the current revision. Changes between the read of the queue and that revision are unknown."""
    client = etcd.client("late")
    first, manager = make(etcd, VirtualClock(), "first"), make(client, clock)
    async with first:
        leader = await first.wait_elected()
        client.delay("watch", request=0.5)
        async with manager:
            await until(lambda: len(etcd.keys()) == 2)
            own = next(key for key in etcd.keys() if key != leader.key.encode())
            etcd.delete(own)
            await anyio.sleep(0.45)
            client.delay("range", answer=0.5)
            await anyio.sleep(0.1)
            etcd.delete(leader.key)
            await anyio.sleep(2 * CONFIG.lease)
            assert not manager.statistics().terms


async def test_a_candidate_past_its_deadline_does_not_win_by_an_event(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The machine was suspended, and the DELETE is the first message received."""
    async with next_in_line(etcd, clock) as candidate:
        clock.advance(CONFIG.lease - CONFIG.margin)
        etcd.delete(candidate.leader.key)
        await anyio.sleep(2 * CONFIG.lease)
        assert all(term.key != candidate.own for term in candidate.recorder.terms)
        assert sum(key.startswith(f"{ELECTION}/".encode()) for key in etcd.keys()) == 2, "it stands again, behind"


async def test_the_deletion_of_a_key_that_waits_behind_a_foreign_one_elects_no_candidate(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    etcd.put(f"{ELECTION}/by-hand", "somebody")
    before, manager = make(etcd, VirtualClock(), "before"), make(etcd, clock, "next")
    async with before:
        await until(lambda: len(etcd.keys()) == 2)
        async with manager:
            await until(lambda: len(etcd.keys()) == 3)
            await anyio.sleep(0.2)
            await before.stop()
            await anyio.sleep(CONFIG.lease)
            assert not manager.is_leader()
            etcd.delete(f"{ELECTION}/by-hand")
            with anyio.fail_after(0.1):
                await manager.wait_elected()


async def test_foreign_keys_created_and_deleted_behind_elect_no_candidate(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with next_in_line(etcd, clock) as candidate:
        for name in ("0", "zzz", f"{candidate.leader.key.rpartition('/')[2]}/below"):
            etcd.put(f"{ELECTION}/{name}", "somebody")
            etcd.delete(f"{ELECTION}/{name}")
            await anyio.sleep(0.1)
            assert not candidate.manager.is_leader()
        await anyio.sleep(CONFIG.lease)
        assert candidate.leader.is_valid()
        assert not candidate.recorder.terms


async def test_a_key_created_again_under_the_predecessors_name_is_queued_behind_ours(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """The order of the queue is that of the revisions of creation, not of names."""
    async with next_in_line(etcd, clock) as candidate:
        candidate.client.stall_watches()
        etcd.delete(candidate.leader.key)
        etcd.put(candidate.leader.key, "somebody")
        candidate.client.resume_watches()
        with anyio.fail_after(0.1):
            term = await candidate.manager.wait_elected()
        await anyio.sleep(CONFIG.lease)
        assert term.is_valid()
        assert not candidate.read_at
