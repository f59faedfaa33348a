"""``term.wait``: a sleep for threads that ends with the term."""

from __future__ import annotations

import math
import os
import threading
import time

import anyio
import anyio.to_thread
import pytest

from etcdleader import LossReason, NoopLeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.threads import threads_have
from tests.sim.world import leading

pytestmark = pytest.mark.anyio

LONG = 3600.0
"""Seconds, in real time: a wait of that length ends in time only if it is woken."""


class Waiting(threading.Thread):
    """A thread of the application, which waits for the end of a term."""

    def __init__(self, term: Term, seconds: float = LONG) -> None:
        super().__init__(daemon=True)
        self.term = term
        self.seconds = seconds
        self.returned: list[bool] = []
        self.start()

    def run(self) -> None:
        self.returned.append(self.term.wait(self.seconds))


async def test_it_returns_true_after_so_many_seconds(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):
        begun = time.monotonic()
        waiting = Waiting(term, 0.05)
        await threads_have(lambda: waiting.returned)
        assert waiting.returned == [True]
        assert time.monotonic() - begun >= 0.05
        at_once = Waiting(term, 0)
        await threads_have(lambda: at_once.returned)
        assert at_once.returned == [True]


@pytest.mark.parametrize("seconds", [LONG, math.inf])
async def test_it_returns_false_when_the_term_ends_in_all_threads(
    etcd: FakeEtcd, clock: VirtualClock, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etcdleader._managers.term_scope._MAX_WAIT_SECONDS", LONG)
    async with leading(etcd, clock) as (manager, term):
        monkeypatch.setattr(Term, "remaining", lambda self: LONG)
        threads = [Waiting(term, seconds) for _ in range(3)]
        await threads_have(lambda: len(term_waiters(manager)) == 3)
        await manager.resign()
        await threads_have(lambda: all(thread.returned for thread in threads))
        assert [thread.returned for thread in threads] == [[False]] * 3
        assert not term_waiters(manager) if manager._scope else True
        late = Waiting(term)
        await threads_have(lambda: late.returned)
        assert late.returned == [False]


def term_waiters(manager: object) -> list[threading.Event]:
    waiting: list[threading.Event] = manager._scope._waiting_threads  # type: ignore[attr-defined]
    return waiting


async def test_it_notices_a_deadline_that_passed_while_the_loop_was_stopped(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """As after a freeze: the loop has not run yet, and the thread does not wait for it."""
    async with leading(etcd, clock) as (_, term):
        waiting = Waiting(term)
        clock.advance(LONG)
        waiting.join(60)  # this blocks the loop
        assert waiting.returned == [False]
        assert term.loss_reason is None
        await anyio.sleep(1)
        assert term.loss_reason is LossReason.EXPIRED


async def test_on_the_thread_of_a_loop_it_is_refused_with_what_to_use_instead(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    async with leading(etcd, clock) as (_, term):
        with pytest.raises(RuntimeError, match=r"await anyio\.sleep"):
            term.wait(1)


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
async def test_a_time_that_is_none_is_refused(etcd: FakeEtcd, clock: VirtualClock, seconds: float) -> None:
    async with leading(etcd, clock) as (_, term):
        with pytest.raises(ValueError, match="0 or more"):
            await anyio.to_thread.run_sync(term.wait, seconds)


async def test_in_a_forked_child_it_returns_false_at_once(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (_, term):

        def fork() -> int:
            if (pid := os.fork()) == 0:
                os._exit(term.wait(LONG))
            return os.waitpid(pid, 0)[1]

        assert await anyio.to_thread.run_sync(fork) == 0


async def test_an_election_that_is_off_has_it_too() -> None:
    manager = NoopLeaderManager()
    async with manager:
        term = await manager.wait_elected()
        short, long = Waiting(term, 0.01), Waiting(term)
        await threads_have(lambda: short.returned)
        assert short.returned == [True]
        assert long.returned == []
        await manager.stop()
        await threads_have(lambda: long.returned)
        assert long.returned == [False]
