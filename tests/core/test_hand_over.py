"""Tables of the candidates that must make way in a hand-over."""

from __future__ import annotations

import pytest

from etcdleader import HandOverError
from etcdleader._election.admin import Candidate, Queue
from etcdleader._election.hand_over import candidates_between, check_library


def named(number: int, identity: str, lease_id: int = 1) -> Candidate:
    return Candidate(identity, number, b"jobs/%x" % number, lease_id, None, None, ())


A, B, C, D = (named(number, f"{name}#0000000{number}") for number, name in enumerate("abcd"))
QUEUE = Queue("jobs", 9, (A, B, C, D))


@pytest.mark.parametrize(("to", "between"), [(B, []), (C, [B]), (D, [B, C])])
def test_those_between_the_leader_and_the_named_one_make_way_in_their_order(
    to: Candidate, between: list[Candidate]
) -> None:
    assert list(candidates_between(QUEUE, to.identity)) == between


@pytest.mark.parametrize(
    ("queue", "to", "reported"),
    [
        (QUEUE, "e#00000005", "no candidate of 'jobs' has the identity 'e#00000005'"),
        (QUEUE, "b", "no candidate"),
        (Queue("jobs", 9, ()), A.identity, "no candidate"),
        (QUEUE, A.identity, "leads 'jobs' already"),
        (Queue("jobs", 9, (A, B, C, B)), B.identity, "2 candidates of 'jobs' have the identity"),
        (Queue("jobs", 9, (A, B, A)), A.identity, "2 candidates"),
    ],
)
def test_a_candidate_that_cannot_be_next_is_refused_with_the_reason(queue: Queue, to: str, reported: str) -> None:
    with pytest.raises(HandOverError) as caught:
        candidates_between(queue, to)
    assert reported in str(caught.value)
    assert caught.value.ahead == ()


@pytest.mark.parametrize("foreign", [named(7, "go"), named(7, ""), named(7, "go#0000000A"), named(7, "e#00000005", 0)])
def test_a_candidate_of_another_library_is_known_before_any_is_asked(foreign: Candidate) -> None:
    with pytest.raises(HandOverError) as caught:
        check_library([B, foreign, C], D.identity)
    assert caught.value.ahead == (foreign.identity,)
    check_library([A, B, C, named(8, "with # and\nmore#00000008")], D.identity)
