"""Candidates of all libraries in one queue: each leads in its turn, with a higher token than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from tests.interop.libraries import ETCDCTL, FOREIGN, LIBRARIES, OURS, Library, Ours
from tests.interop.queue_reader import QueueReader
from tests.interop.steps import Find, join, lead

QUEUES = [
    ("etcdleader-asyncio", "go", "jetcd", "etcdctl-3.7"),
    ("go", "jetcd", "etcdctl-3.6", "etcdleader-trio"),
    ("jetcd", "etcdctl-3.5", "etcdleader-asyncio", "go"),
    ("etcdctl-3.7", "etcdleader-trio", "go", "jetcd"),
]


@pytest.mark.parametrize(("first", "second"), list(permutations(LIBRARIES, 2)))
def test_two_libraries_hand_the_leadership_back_and_forth(
    library: Find, queues: QueueReader, election: str, first: str, second: str
) -> None:
    leader = join(queues, election, library(first))
    records = [lead(queues, election, leader)]
    for successor in (second, first):
        waiting = join(queues, election, library(successor))
        assert waiting.is_silent(), "it reported something while the other one led"
        leader.resign()
        records.append(lead(queues, election, waiting))
        leader = waiting
    leader.resign()
    assert queues.read(election) == []
    tokens = [record.token for record in records]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("names", QUEUES, ids=lambda names: f"{names[0]}-first")
def test_a_queue_of_four_libraries_leads_in_the_order_of_joining(
    library: Find, queues: QueueReader, election: str, names: tuple[str, ...]
) -> None:
    lead_in_turn(queues, election, [library(name) for name in names])


def test_a_queue_of_two_candidates_of_each_library_leads_in_the_order_of_joining(
    present: list[Library], queues: QueueReader, election: str
) -> None:
    lead_in_turn(queues, election, [*present, *reversed(present)])


def lead_in_turn(queues: QueueReader, election: str, libraries: Sequence[Library]) -> None:
    """Let candidates join, lead and resign in this order."""
    candidates = [join(queues, election, library) for library in libraries]
    queue = queues.read(election)
    led = []
    for place, candidate in enumerate(candidates):
        led.append(lead(queues, election, candidate))
        assert all(later.is_silent() for later in candidates[place + 1 :])
        candidate.resign()
    assert led == queue, "the candidates led in another order than they joined, or with other tokens"
    assert [record.token for record in led] == sorted({record.token for record in led})


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("ours", OURS)
def test_our_leader_that_resigns_rejoins_behind_a_foreign_candidate(
    library: Find, queues: QueueReader, election: str, ours: str, foreign: str
) -> None:
    etcdleader = library(ours)
    assert isinstance(etcdleader, Ours)
    leader = join(queues, election, etcdleader)
    first = lead(queues, election, leader)
    waiting = join(queues, election, library(foreign))
    etcdleader.rejoin(leader)
    second = lead(queues, election, waiting)
    queues.wait(election, lambda records: len(records) == 2 and records[0] == second)
    waiting.resign()
    third = lead(queues, election, leader)
    assert first.token < second.token < third.token
    assert len({first.key, second.key, third.key}) == 3
    leader.resign()


@pytest.mark.parametrize("leaving", LIBRARIES)
def test_a_candidate_that_leaves_while_it_waits_is_passed_over(
    library: Find, queues: QueueReader, election: str, leaving: str
) -> None:
    """The one behind it must neither lead when it leaves nor miss the end of the leader."""
    ours = library("etcdleader-asyncio" if leaving != "etcdleader-asyncio" else "etcdleader-trio")
    leader = join(queues, election, ours)
    first = lead(queues, election, leader)
    waiting = join(queues, election, library(leaving))
    last = join(queues, election, ours)
    waiting.resign()
    # etcdctl leaves its key until its lease ends if it is interrupted before it has the answer to its join.
    for left_behind in queues.read(election)[1:-1]:
        assert leaving in ETCDCTL
        queues.client.revoke_lease(left_behind.lease)
    queues.wait_length(election, 2)
    assert last.is_silent()
    leader.resign()
    assert lead(queues, election, last).token > first.token
    last.resign()
