"""When an endpoint is left, decided without a clock or a connection."""

from __future__ import annotations

import math

import pytest

from etcdleader._etcd.balancer import EndpointBalancer

NEVER = -math.inf


def test_a_report_about_an_endpoint_that_was_left_already_changes_nothing() -> None:
    """Many callers find out at the same time that a member does not answer."""
    balancer = EndpointBalancer(3)
    assert balancer.switch(0, 10.0, NEVER)
    assert not balancer.switch(0, 10.0, NEVER)
    assert balancer.number == 1


def test_each_endpoint_is_tried_at_once_and_then_one_a_second() -> None:
    """In an outage the many that fail must not open a connection each."""
    balancer = EndpointBalancer(3)
    for number in range(2):
        balancer.opened(10.0)
        assert balancer.switch(number, 10.0, NEVER)
    balancer.opened(10.0)
    assert not balancer.switch(2, 10.9, NEVER)
    assert balancer.switch(2, 11.0, NEVER)
    balancer.opened(11.0)
    assert not balancer.switch(3, 11.9, NEVER)


def test_an_answer_makes_the_others_worth_a_try_at_once() -> None:
    balancer = EndpointBalancer(2)
    balancer.opened(10.0)
    assert balancer.switch(0, 10.0, NEVER)
    balancer.opened(10.0)
    assert not balancer.switch(1, 10.1, NEVER)
    balancer.answered()
    assert balancer.switch(1, 10.1, NEVER)


@pytest.mark.parametrize(("silent", "leaves"), [(0.0, False), (0.09, False), (0.11, True), (math.inf, True)])
def test_the_only_endpoint_is_left_if_it_is_silent(silent: float, *, leaves: bool) -> None:
    """What it has not answered in time is late, not lost, while anything comes from it."""
    balancer = EndpointBalancer(1)
    assert balancer.switch(0, 10.0, 10.0 - silent) is leaves


def test_one_of_several_is_left_though_it_talks() -> None:
    balancer = EndpointBalancer(2)
    assert balancer.switch(0, 10.0, 10.0)


def test_the_only_endpoint_is_left_though_it_talks_if_it_answers_no_call_for_a_second() -> None:
    """A stream may bring events, or nothing but empty frames, where every call is lost."""
    balancer = EndpointBalancer(1)
    balancer.opened(0.0)
    assert not balancer.switch(0, 10.0, 10.0)
    balancer.answered()  # an event of a watch
    assert not balancer.switch(0, 10.9, 10.9)
    balancer.answered()
    assert balancer.switch(0, 11.0, 11.0)
    balancer.opened(11.0)
    assert not balancer.switch(1, 20.0, 20.0), "the new connection has its second, too"


def test_an_answered_call_keeps_the_only_endpoint() -> None:
    balancer = EndpointBalancer(1)
    for second in range(10, 20):
        assert not balancer.switch(0, float(second), float(second))
        balancer.answered_call()
