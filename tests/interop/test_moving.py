"""Our keys move to another lease while candidates of other libraries wait behind them, or lead."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import anyio
import pytest

from etcdleader.testing import EtcdServer
from tests.helpers.etcd_leader import leader_and_others
from tests.interop.libraries import FOREIGN
from tests.interop.program import Record
from tests.interop.queue_reader import QueueReader
from tests.interop.steps import Find, join, lead

TTL = 8
"""Seconds: a key moves at the next renewal, after a quarter of it, and no healthy process stalls for the rest."""
OURS = "etcdleader-asyncio"


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    """Return a cluster whose leadership can be handed over."""
    # A member that stands still for a second or two must not cost etcd's leader its place: each change moves keys.
    with EtcdServer(members=3, extra_args=["--election-timeout=5000"]) as server:
        yield server


def change_leader(etcd: EtcdServer) -> None:
    """Let etcd's leader hand over to another member."""
    leader, others = anyio.run(leader_and_others, etcd)
    command = [str(etcd.etcdctl), "--endpoints", etcd.endpoints[leader], "move-leader", f"{others[0]:x}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=30)


def wait_moved(queues: QueueReader, election: str, before: Record, *, place: int = 0) -> Record:
    """Wait until this key is on another lease, and check that nothing else of it has changed."""
    after = queues.wait(election, lambda records: records[place].lease != before.lease)[place]
    assert (after.key, after.value, after.token) == (before.key, before.value, before.token)
    return after


@pytest.mark.parametrize("foreign", FOREIGN)
def test_foreign_candidates_wait_on_behind_our_leader_whose_key_moves(
    library: Find, etcd_server: EtcdServer, queues: QueueReader, election: str, foreign: str
) -> None:
    """Their observers report the same leader again, with its new lease."""
    theirs = library(foreign)
    leader = join(queues, election, library(OURS), ttl=TTL)
    first = lead(queues, election, leader)
    waiting = [join(queues, election, theirs) for _ in range(2)]
    view = theirs.observe(election)
    assert Record.of(view.get("observed")) == first

    change_leader(etcd_server)
    moved = wait_moved(queues, election, first)
    assert Record.of(view.get("observed")) == moved
    assert theirs.leader(election) == moved
    assert all(candidate.is_silent() for candidate in (leader, *waiting))
    assert len(queues.read(election)) == 3

    tokens = [first.token]
    for before, candidate in zip((leader, waiting[0]), waiting, strict=True):
        before.resign()
        record = lead(queues, election, candidate)
        assert Record.of(view.get("observed")) == record
        tokens.append(record.token)
    assert tokens == sorted(set(tokens))
    waiting[1].resign()


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_leader_and_a_candidate_behind_do_not_mind_that_our_next_in_line_moves(
    library: Find, etcd_server: EtcdServer, queues: QueueReader, election: str, foreign: str
) -> None:
    theirs = library(foreign)
    leader = join(queues, election, theirs)
    lead(queues, election, leader)
    ours = join(queues, election, library(OURS), ttl=TTL)
    last = join(queues, election, theirs)
    before = queues.read(election)[1]

    change_leader(etcd_server)
    moved = wait_moved(queues, election, before, place=1)
    assert all(candidate.is_silent() for candidate in (leader, ours, last))

    leader.resign()
    assert ours.wait_elected() == moved
    assert last.is_silent()
    ours.resign()
    assert lead(queues, election, last).token > moved.token
    last.resign()
