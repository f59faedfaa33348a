"""A priority queue of deadlines: the earliest comes first, and each item is in it once."""

from __future__ import annotations

import random

from etcdleader._lease.timer_queue import TimerQueue


def test_due_entries_come_in_the_order_of_their_times_and_the_others_stay() -> None:
    agenda: TimerQueue[str] = TimerQueue()
    for thing, when in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 9.0)):
        agenda.set(thing, when)
    assert agenda.next() == 1.0
    assert [agenda.pop(3.0) for _ in range(4)] == ["a", "b", "c", None]
    assert agenda.next() == 9.0


def test_an_entry_that_is_set_again_is_due_once_at_its_new_time() -> None:
    agenda: TimerQueue[str] = TimerQueue()
    agenda.set("a", 1.0)
    agenda.set("b", 2.0)
    agenda.set("a", 3.0)
    assert [agenda.pop(5.0) for _ in range(3)] == ["b", "a", None]
    agenda.set("a", 5.0)
    agenda.set("a", 4.0)
    assert agenda.next() == 4.0
    assert [agenda.pop(5.0) for _ in range(2)] == ["a", None]


def test_a_discarded_entry_is_not_due_until_it_is_set_again() -> None:
    agenda: TimerQueue[str] = TimerQueue()
    agenda.set("a", 1.0)
    agenda.discard("a")
    agenda.discard("never there")
    assert agenda.next() is None
    assert agenda.pop(9.0) is None
    agenda.set("a", 2.0)
    assert agenda.pop(9.0) == "a"


def test_entries_of_one_time_come_in_the_order_in_which_they_were_set() -> None:
    agenda: TimerQueue[object] = TimerQueue()
    things = [object() for _ in range(20)]
    for thing in things:
        agenda.set(thing, 1.0)
    assert [agenda.pop(1.0) for _ in things] == things


def test_many_changes_of_a_hundred_entries_take_the_memory_of_a_hundred() -> None:
    agenda: TimerQueue[int] = TimerQueue()
    chance = random.Random(7)
    times: dict[int, float] = {}
    for _ in range(100_000):
        thing = chance.randrange(100)
        times[thing] = chance.random()
        agenda.set(thing, times[thing])
        assert len(agenda._heap) <= 500
    popped = [agenda.pop(1.0) for _ in range(100)]
    assert popped == sorted(times, key=lambda thing: times[thing])
