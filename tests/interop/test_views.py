"""Every library reports the same leader of a queue that all of them stand in."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from tests.interop.libraries import ETCDCTL, LIBRARIES, OURS, Library, Ours
from tests.interop.program import Record
from tests.interop.queue_reader import QueueReader
from tests.interop.steps import Find, join, lead


@pytest.mark.parametrize(
    ("leading", "observing"), [pair for pair in permutations(LIBRARIES, 2) if not set(pair).isdisjoint(OURS)]
)
def test_an_observer_reports_a_leader_of_another_library_and_its_successor(
    library: Find, queues: QueueReader, election: str, leading: str, observing: str
) -> None:
    leader = join(queues, election, library(leading))
    first = lead(queues, election, leader)
    successor = join(queues, election, library(leading))
    view = library(observing).observe(election)
    assert Record.of(view.get("observed")) == first
    leader.resign()
    second = lead(queues, election, successor)
    assert Record.of(view.get("observed")) == second
    successor.resign()
    if observing in OURS:
        assert "key" not in view.get("observed"), "our observer reports that there is no leader"


def test_all_libraries_agree_on_the_leader_and_etcdleader_lists_the_whole_queue(
    present: list[Library], queues: QueueReader, election: str
) -> None:
    candidates = [join(queues, election, library) for library in present]
    for candidate in candidates:
        leader = lead(queues, election, candidate)
        for library in present:
            assert (library.name, library.leader(election)) == (library.name, leader)
        for library in present:
            if isinstance(library, Ours):
                assert library.candidates(election) == queues.read(election)
        candidate.resign()


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("foreign", [name for name in LIBRARIES if name not in OURS])
def test_other_libraries_show_an_advertised_value_as_json_and_wait_on(
    library: Find, queues: QueueReader, election: str, ours: str, foreign: str
) -> None:
    leading = library(ours)
    assert isinstance(leading, Ours)
    leader = join(queues, election, leading)
    first = lead(queues, election, leader)
    successor = join(queues, election, library(foreign))
    leading.proclaim(leader, "http://größe:1")
    reported = library(foreign).leader(election)
    assert reported is not None
    assert (reported.key, reported.token, reported.lease) == (first.key, first.token, first.lease)
    assert json.loads(reported.value) == {"id": first.value, "advertise": "http://größe:1"}
    seen = leading.leader(election)
    assert seen is not None
    assert seen.value == f"{first.value} at http://größe:1"
    assert leader.is_silent(), "our own value is no request to step down"
    assert successor.is_silent(), "a candidate of another library waits for a DELETE"
    leader.resign()
    lead(queues, election, successor)


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name not in ETCDCTL])
def test_an_election_without_candidates_has_no_leader_in_any_library(library: Find, election: str, name: str) -> None:
    assert library(name).leader(election) is None
