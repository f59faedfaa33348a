"""The switch to another endpoint, decided without a clock or a connection."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest

from etcdleader._etcd.endpoint_selector import EndpointSelector

NEVER = -math.inf


def test_a_report_about_a_former_endpoint_changes_nothing() -> None:
    """Many callers detect at the same time that a member does not respond."""
    balancer = EndpointSelector(3)
    assert balancer.switch(0, 10.0, NEVER)
    assert not balancer.switch(0, 10.0, NEVER)
    assert balancer.number == 1


def test_each_endpoint_is_tried_at_once_and_then_one_a_second() -> None:
    """In an outage the many callers that fail must not open a connection each."""
    balancer = EndpointSelector(3)
    for number in range(2):
        balancer.opened(10.0)
        assert balancer.switch(number, 10.0, NEVER)
    balancer.opened(10.0)
    assert not balancer.switch(2, 10.9, NEVER)
    assert balancer.switch(2, 11.0, NEVER)
    balancer.opened(11.0)
    assert not balancer.switch(3, 11.9, NEVER)


def test_a_response_allows_the_next_attempt_at_once() -> None:
    balancer = EndpointSelector(2)
    balancer.opened(10.0)
    assert balancer.switch(0, 10.0, NEVER)
    balancer.opened(10.0)
    assert not balancer.switch(1, 10.1, NEVER)
    balancer.answered()
    assert balancer.switch(1, 10.1, NEVER)


@pytest.mark.parametrize(("silent", "leaves"), [(0.0, False), (0.09, False), (0.11, True), (math.inf, True)])
def test_the_only_endpoint_is_left_if_it_is_silent(silent: float, *, leaves: bool) -> None:
    """While data arrives from it, a missing response is late, not lost."""
    balancer = EndpointSelector(1)
    assert balancer.switch(0, 10.0, 10.0 - silent) is leaves


def test_one_of_several_endpoints_is_left_although_it_sends_data() -> None:
    balancer = EndpointSelector(2)
    assert balancer.switch(0, 10.0, 10.0)


def test_an_endpoint_that_stands_for_several_members_is_left_as_one_of_several() -> None:
    """A lookup in DNS has shown them."""
    balancer = EndpointSelector(1)
    balancer.found(3)
    assert balancer.switch(0, 10.0, 10.0)
    balancer.found(1)
    assert not balancer.switch(1, 20.0, 20.0)


def test_the_only_endpoint_is_left_although_it_sends_data_if_it_answers_no_call_for_a_second() -> None:
    """A stream may deliver events, or only empty frames, while every call is lost."""
    balancer = EndpointSelector(1)
    balancer.opened(0.0)
    assert not balancer.switch(0, 10.0, 10.0)
    balancer.answered()  # an event of a watch
    assert not balancer.switch(0, 10.9, 10.9)
    balancer.answered()
    assert balancer.switch(0, 11.0, 11.0)
    balancer.opened(11.0)
    assert not balancer.switch(1, 20.0, 20.0), "the new connection has its second, too"


def test_a_response_to_a_call_keeps_the_only_endpoint() -> None:
    balancer = EndpointSelector(1)
    for second in range(10, 20):
        assert not balancer.switch(0, float(second), float(second))
        balancer.answered_call()


class Situation(NamedTuple):
    """The situation that decides whether an endpoint is left after a failure."""

    endpoints: str
    tried: str
    opened: str
    received: str
    failing: str


KEPT, LEFT = False, True
ANY = "any"
NOW = 100.0
DECISIONS = {
    # An outage: one attempt to connect per second.
    Situation("one", ANY, "now", ANY, ANY): KEPT,
    Situation("several", "all in vain", "now", ANY, ANY): KEPT,
    # There are other endpoints.
    Situation("several", "not all", "now", ANY, ANY): LEFT,
    Situation("several", ANY, "a second ago", ANY, ANY): LEFT,
    # There are none, and data arrives from it.
    Situation("one", ANY, "a second ago", "now", "now"): KEPT,
    Situation("one", ANY, "a second ago", "now", "for a second"): LEFT,
    Situation("one", ANY, "a second ago", "long ago", ANY): LEFT,
}
SITUATIONS = [
    Situation(*one)
    for one in product(
        ("one", "several"),
        ("not all", "all in vain"),
        ("now", "a second ago"),
        ("now", "long ago"),
        ("now", "for a second"),
    )
    # A single endpoint is the same as all endpoints, and one of several is left at its first failure.
    if one[:2] != ("one", "not all") and (one[0], one[4]) != ("several", "for a second")
]
INPUTS: dict[str, tuple[Callable[[EndpointSelector], object], dict[str, str]]] = {
    # The event, and the action with the same effect.
    "nothing": (lambda balancer: None, {}),
    "a connection is opened": (lambda balancer: balancer.opened(NOW), {"opened": "now"}),
    "a message on a stream": (lambda balancer: balancer.answered(), {"tried": "not all"}),
    "an answer to a call": (lambda balancer: balancer.answered_call(), {"failing": "now"}),
    "a failure of one that was left": (lambda balancer: balancer.switch(balancer.number - 1, NOW, NEVER), {}),
}


def decision(situation: Situation) -> bool:
    """Look it up: exactly one row fits."""
    (found,) = [
        decided
        for row, decided in DECISIONS.items()
        if all(part in (ANY, of) for part, of in zip(row, situation, strict=True))
    ]
    return found


def balancer_in(situation: Situation) -> EndpointSelector:
    balancer = EndpointSelector(1 if situation.endpoints == "one" else 3)
    balancer.opened(0.0)
    if situation.failing == "for a second":
        assert not balancer.switch(0, NOW - 1, NOW - 1)
    if situation.endpoints == "several":
        for number in range(2 if situation.tried == "all in vain" else 1):
            assert balancer.switch(number, 50.0, NEVER)
    balancer.opened(NOW if situation.opened == "now" else NOW - 1)
    return balancer


@pytest.mark.parametrize("what", INPUTS)
@pytest.mark.parametrize("situation", SITUATIONS, ids="-".join)
def test_the_table_decides_for_each_situation_and_input_whether_an_endpoint_is_left(
    situation: Situation, what: str
) -> None:
    balancer = balancer_in(situation)
    happens, changes = INPUTS[what]
    happens(balancer)
    number = balancer.number
    leaves = decision(situation._replace(**changes))
    assert balancer.switch(number, NOW, NOW if situation.received == "now" else NEVER) is leaves
    assert balancer.number == number + leaves
    assert not balancer.switch(number - 1, NOW, NEVER), "it was left before"
