"""The numbers that metrics compute when they are read, in any thread."""

from __future__ import annotations

import gc
import threading
import time

from etcdleader import NoopLeaderManager
from etcdleader._managers.facts import CountedManagers


def test_the_time_without_a_leader_never_goes_back_while_it_is_read() -> None:
    """To Prometheus a counter that falls is a restart, and a rate of many years."""
    manager = NoopLeaderManager()
    view = CountedManagers(time.monotonic).add(manager)
    read: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            read.append(view.leaderless())

    thread = threading.Thread(target=look)
    thread.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end or len(read) <= 100:
        view.change(known=False)
        view.change(known=True)
    done.set()
    thread.join()
    assert len(read) > 100
    assert read == sorted(read)


def test_an_interval_that_ends_while_it_is_read_is_not_read_too_long() -> None:
    """A reading thread can be stopped between two of its steps for any length of time."""
    now = [0.0]
    interruptions: list[float] = []

    def clock() -> float:
        if interruptions:
            pause = interruptions.pop()
            view.change(known=True)
            now[0] += pause
        return now[0]

    manager = NoopLeaderManager()
    view = CountedManagers(clock).add(manager)
    view.change(known=False)
    now[0] = 5.0
    interruptions.append(100.0)
    assert view.leaderless() == 5


def test_the_time_without_a_leader_goes_on_with_the_next_manager_of_the_election() -> None:
    """It is the election's time in this process. A counter that falls is a restart."""
    now = [0.0]
    managers = CountedManagers(lambda: now[0])
    for _ in range(2):
        manager = NoopLeaderManager(election_key="jobs")
        view = managers.add(manager)
        view.change(known=False)
        now[0] += 10
        assert view.leaderless() == now[0]
        assert list(managers.by_election()) == ["jobs"]
        del manager
        gc.collect()
        assert managers.by_election() == {}
