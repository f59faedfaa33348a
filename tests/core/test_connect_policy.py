"""The time of the next attempt to connect to a member, and the ping interval, decided without a clock."""

from __future__ import annotations

import pytest

from etcdleader._etcd.connect_policy import ConnectPolicy


def longest(least: float, most: float) -> float:
    return most


def test_the_first_attempt_waits_for_nothing() -> None:
    assert ConnectPolicy(longest).delay(10.0) == 0


def test_pauses_double_up_to_a_second_and_count_from_the_attempt() -> None:
    policy, now, pauses = ConnectPolicy(longest), 10.0, []
    for _ in range(7):
        policy.attempt(now)
        pauses.append(round(policy.delay(now), 3))
        now += pauses[-1]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    policy.attempt(now)
    assert policy.delay(now + 0.75) == pytest.approx(0.25)
    assert policy.delay(now + 5) == 0


def test_up_to_half_of_a_pause_is_random() -> None:
    """Clients that lost a member at the same moment do not reconnect at the same moment."""
    drawn: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return least

    policy = ConnectPolicy(uniform)
    for _ in range(2):
        policy.attempt(10.0)
    assert drawn == [(0.025, 0.05), (0.05, 0.1)]
    assert policy.delay(10.0) == pytest.approx(0.05)


def test_responses_for_a_second_end_the_pauses_and_an_attempt_does_not() -> None:
    """A load balancer without a backend accepts each connection, and closes it. A broken server may respond first."""
    policy = ConnectPolicy(longest)
    for _ in range(3):
        policy.attempt(10.0)
    assert policy.delay(10.0) == pytest.approx(0.2)
    policy.received(10.9)
    assert policy.delay(10.0) > 0, "it may hang up now"
    policy.attempt(10.9)
    assert policy.delay(10.9) == pytest.approx(0.4)
    policy.received(11.9)
    assert not policy.failing
    assert policy.delay(11.9) == 0
    policy.attempt(12.0)
    assert policy.delay(12.0) == pytest.approx(0.05)


def test_a_member_that_is_pinged_too_often_is_pinged_half_as_often_up_to_a_limit() -> None:
    policy = ConnectPolicy(longest)
    intervals = [policy.ping_interval]
    for _ in range(6):
        policy.too_many_pings()
        intervals.append(policy.ping_interval)
    assert intervals == [10, 20, 40, 80, 160, 300, 300]
