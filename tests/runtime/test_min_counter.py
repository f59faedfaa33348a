"""The smallest of many numbers of which few differ."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from etcdleader._runtime.min_counter import MinCounter

NUMBERS = st.sampled_from([0.5, 1.0, 5.0, math.inf])


@given(st.lists(st.tuples(NUMBERS, st.booleans())))
def test_the_minimum_is_that_of_a_list_after_any_additions_and_removals(steps: list[tuple[float, bool]]) -> None:
    numbers: list[float] = []
    counter = MinCounter()
    for number, remove in steps:
        if not remove:
            numbers.append(number)
            counter.add(number)
        elif number in numbers:
            numbers.remove(number)
            counter.remove(number)
        assert counter.min(-1.0) == min(numbers, default=-1.0)
