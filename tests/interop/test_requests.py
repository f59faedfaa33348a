"""One library acts on the keys of another: values that change, requests to step down, leases of the server."""

from __future__ import annotations

import anyio
import pytest

from etcdleader._election.admin import Queue, connected, read_queue
from etcdleader.testing import EtcdServer
from tests.interop.libraries import FOREIGN, LONG_TTL, OURS, Library, ProgramLibrary
from tests.interop.program import Record
from tests.interop.queue_reader import QueueReader
from tests.interop.steps import Find, join, lead

CALL_TIMEOUT_SECONDS = 30


@pytest.mark.parametrize("foreign", ["go", "jetcd"])
def test_a_foreign_leader_that_proclaims_another_value_keeps_its_token_and_its_place(
    library: Find, queues: QueueReader, election: str, foreign: str
) -> None:
    theirs, ours = library(foreign), library("etcdleader-asyncio")
    assert isinstance(theirs, ProgramLibrary)
    leader = join(queues, election, theirs)
    first = lead(queues, election, leader)
    view = ours.observe(election)
    assert Record.of(view.get("observed")) == first
    waiting = join(queues, election, ours)
    theirs.proclaim(leader, "übernommen")
    changed = Record(first.key, "übernommen", first.token, first.lease)
    assert Record.of(view.get("observed")) == changed
    assert ours.leader(election) == changed
    assert waiting.is_silent()
    leader.resign()
    assert lead(queues, election, waiting).token > first.token
    waiting.resign()


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("ours", OURS)
def test_our_leader_that_is_requested_to_step_down_hands_over_to_a_foreign_candidate(
    library: Find, queues: QueueReader, election: str, ours: str, foreign: str
) -> None:
    leader = join(queues, election, library(ours))
    first = lead(queues, election, leader)
    waiting = join(queues, election, library(foreign))
    queues.touch(first)
    second = lead(queues, election, waiting)
    assert second.token > first.token
    waiting.resign()
    assert lead(queues, election, leader).token > second.token
    leader.resign()


@pytest.mark.parametrize("foreign", FOREIGN)
def test_foreign_candidates_ignore_a_request_to_step_down_and_so_do_those_behind_them(
    library: Find, queues: QueueReader, election: str, foreign: str
) -> None:
    leader = join(queues, election, library(foreign))
    first = lead(queues, election, leader)
    candidates = [join(queues, election, library(name)) for name in (*OURS, foreign)]
    queue = queues.read(election)
    queues.touch(queue[0])
    queues.touch(queue[-1])
    assert queues.read(election) == queue
    leader.resign()
    token = first.token
    for candidate in candidates:
        record = lead(queues, election, candidate)
        assert record.token > token
        token = record.token
        candidate.resign()


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("ours", OURS)
def test_a_foreign_candidate_may_be_the_successor_but_does_not_make_way(
    library: Find, queues: QueueReader, election: str, ours: str, foreign: str
) -> None:
    """Our candidates queue again behind it. A candidate behind it cannot be the successor, and no candidate receives a request."""
    program = library(ours)
    assert isinstance(program, ProgramLibrary)
    leader = join(queues, election, program)
    first = lead(queues, election, leader)
    waiting, successor, last = (join(queues, election, library(name)) for name in (ours, foreign, ours))
    queue = queues.read(election)
    program.program.send("rejoin", leader.name, queue[-1].value)
    error = leader.inbox.get("failed")["error"]
    assert "HandOverError" in error
    assert queue[2].value in error
    assert queues.read(election) == queue
    program.program.send("rejoin", leader.name, queue[2].value)
    leader.inbox.get("rejoining")
    second = lead(queues, election, successor)
    assert second.token > first.token
    queue = queues.wait_length(election, 4)
    assert [record.value.partition("#")[0] for record in queue[1:]] == [last.name, waiting.name, leader.name]
    successor.resign()
    lead(queues, election, last)


def test_status_finds_no_anomaly_in_a_queue_of_all_libraries(
    present: list[Library], queues: QueueReader, etcd_server: EtcdServer, election: str
) -> None:
    candidates = [join(queues, election, library) for library in present]
    lead(queues, election, candidates[0])

    async def read() -> Queue:
        async with connected(etcd_server.config, timeout=CALL_TIMEOUT_SECONDS) as connection:
            return await read_queue(connection, election, timeout=CALL_TIMEOUT_SECONDS)

    found = anyio.run(read).candidates
    assert [candidate.identity for candidate in found] == [record.value for record in queues.read(election)]
    assert {candidate.anomalies for candidate in found} == {()}
    assert {candidate.lease_ttl for candidate in found} == {LONG_TTL}
    for candidate in reversed(candidates):
        candidate.resign()


def test_a_jetcd_candidate_on_a_lease_of_the_server_has_one_minute(
    library: Find, queues: QueueReader, election: str
) -> None:
    """The service keeps no lease alive: without a caller that does, the candidate's time is up after a minute."""
    candidate = library("jetcd").campaign(election, 0)
    record = lead(queues, election, candidate)
    info = queues.client.get_lease_info(record.lease)
    assert info.grantedTTL == 60
    assert library("etcdleader-asyncio").leader(election) == record
    candidate.resign()
    assert queues.read(election) == []


@pytest.mark.parametrize("foreign", ["go", "jetcd"])
def test_a_foreign_candidate_that_wins_without_its_key_has_a_lower_token_than_our_leader(
    library: Find, present: list[Library], queues: QueueReader, election: str, foreign: str
) -> None:
    """A waiting candidate of these libraries does not notice the end of its lease, and reports that it leads."""
    ours = library("etcdleader-asyncio")
    leader = join(queues, election, ours)
    lead(queues, election, leader)
    dead = join(queues, election, library(foreign))
    key = queues.read(election)[1]
    last = join(queues, election, ours)
    queues.client.revoke_lease(key.lease)
    queues.wait_length(election, 2)
    leader.resign()
    true_leader = lead(queues, election, last)
    assert {other.leader(election) for other in present} == {true_leader}
    event = dead.inbox.get("elected", "lost")
    if event["event"] == "lost":  # a keep-alive came in between
        event = dead.inbox.get("elected")
    assert Record.of(event) == key
    assert key.token < true_leader.token
    last.resign()
