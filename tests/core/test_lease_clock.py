from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader._lease.lease_clock import LeaseClock, Renewal, judge_renewal

moments = st.floats(0, 1e6, allow_nan=False)


def test_a_lease_is_believed_from_the_send_time_plus_ttl_minus_margin() -> None:
    """Rule 2: etcd counts from some moment after the request left, so only the send time is safe."""
    clock = LeaseClock(sent_at=100, ttl=10, margin=2)

    assert clock.believed(107.999)
    assert clock.remaining(100) == 8
    assert not clock.believed(108)


def test_a_confirmation_past_the_deadline_extends_nothing() -> None:
    """It may have been sent in time: the process was stopped in between, and was seen not to believe."""
    clock = LeaseClock(sent_at=0, ttl=10, margin=1)

    assert not clock.confirm(sent_at=8, ttl=10, now=9)
    assert clock.deadline == 9
    assert not clock.believed(0)


def test_a_clock_that_was_read_past_the_deadline_once_never_believes_again() -> None:
    clock = LeaseClock(sent_at=0, ttl=10, margin=1)
    assert not clock.believed(9.5)

    assert not clock.believed(5)
    assert clock.remaining(5) <= 0
    assert not clock.confirm(sent_at=5, ttl=10, now=5)


def test_a_confirmation_that_was_overtaken_does_not_shorten_the_lease() -> None:
    clock = LeaseClock(sent_at=0, ttl=10, margin=1)

    assert clock.confirm(sent_at=5, ttl=10, now=6)
    assert clock.confirm(sent_at=3, ttl=10, now=7)
    assert clock.deadline == 14
    assert clock.sent_at == 5


@given(
    st.lists(st.tuples(moments, st.floats(0, 50), st.floats(1, 100), st.booleans()), max_size=30),
    st.floats(0.1, 5),
)
def test_once_not_believed_never_believed_again(steps: list[tuple[float, float, float, bool]], margin: float) -> None:
    """Whatever is confirmed and asked in whatever order, with time going on."""
    clock = LeaseClock(0, 10, margin)
    now = 0.0
    over = False
    for passed, ago, ttl, ask in steps:
        now += passed % 20
        if ask:
            believed = clock.believed(now)
            assert not (over and believed)
            over = over or not believed
        else:
            confirmed = clock.confirm(now - min(ago, now), ttl, now)
            assert not (over and confirmed)
            over = over or not confirmed


FINE: Mapping[str, int | bool] = {
    "ttl": 10,
    "keep_alive_term": 7,
    "read_term": 7,
    "highest_term": 7,
    "key_stands": True,
}


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ({}, Renewal.CONFIRMED),
        # A deposed leader acknowledged; its successor answered the read.
        ({"keep_alive_term": 6}, Renewal.UNCONFIRMED),
        # The read came from before the change, the keep-alive from after it.
        ({"read_term": 6}, Renewal.UNCONFIRMED),
        # Both agree, on a term that is over: a cluster restored from a backup starts again at a lower one.
        ({"keep_alive_term": 6, "read_term": 6}, Renewal.UNCONFIRMED),
        ({"highest_term": 3}, Renewal.CONFIRMED),
        ({"ttl": 0}, Renewal.LEASE_LOST),
        ({"ttl": -1}, Renewal.LEASE_LOST),
        ({"key_stands": False}, Renewal.KEY_LOST),
        # A linearizable read that does not show the key is the truth, in whatever term the lease was renewed.
        ({"key_stands": False, "keep_alive_term": 6}, Renewal.KEY_LOST),
    ],
)
def test_a_renewal_counts_only_in_one_raft_term_and_with_the_key_standing(
    case: Mapping[str, int | bool], verdict: Renewal
) -> None:
    """Rule 3: etcd answers keep-alives without consensus."""
    arguments = {**FINE, **case}
    assert (
        judge_renewal(
            ttl=int(arguments["ttl"]),
            keep_alive_term=int(arguments["keep_alive_term"]),
            read_term=int(arguments["read_term"]),
            highest_term=int(arguments["highest_term"]),
            key_stands=bool(arguments["key_stands"]),
        )
        is verdict
    )
