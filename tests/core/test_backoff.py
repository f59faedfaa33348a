from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etcdleader._lease.backoff import Backoff


def longest(low: float, high: float) -> float:
    assert low <= high
    return high


def shortest(low: float, high: float) -> float:
    assert low <= high
    return low


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(8, longest)

    assert [backoff.next() for _ in range(6)] == [0.5, 1, 2, 4, 8, 8]


def test_a_success_resets_the_backoff() -> None:
    backoff = Backoff(8, longest)
    for _ in range(5):
        backoff.next()
    backoff.reset()

    assert backoff.next() == 0.5


@given(st.floats(1e-3, 1e6), st.integers(1, 40))
def test_a_pause_is_never_zero_and_never_above_the_longest(bound: float, tries: int) -> None:
    """Zero would be a busy loop. More than ``retry`` would exceed the time of a renewal."""
    low, high = Backoff(bound, shortest), Backoff(bound, longest)
    for _ in range(tries):
        assert 0 < low.next() <= high.next() <= bound
