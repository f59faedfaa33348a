"""``manager.step()``: while the block runs, leadership is not released."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from etcdleader import (
    LossReason,
    NoopLeaderManager,
    Term,
)
from etcdleader._managers.steps import TermStep
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.threads import group_of_threads, threads_have
from tests.sim.stepping import Steps, step_of
from tests.sim.world import CONFIG, leading, make, until

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """Of the user."""


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def test_a_step_receives_the_term_only_while_its_manager_leads(etcd: FakeEtcd, clock: VirtualClock) -> None:
    manager, second = make(etcd, clock), make(etcd, clock, "b")
    assert await step_of(manager) == [None] * 3, "no campaign"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(manager)
        term = await manager.wait_elected()
        await stack.enter_async_context(second)
        assert await step_of(manager) == [term] * 3
        assert await step_of(second) == [None] * 3, "it waits"
        await manager.resign()
        assert await step_of(manager) == [None] * 3, "its term is over"
        later = await second.wait_elected()
        assert await step_of(second) == [later] * 3
        clock.advance(CONFIG.lease)
        assert await step_of(second) == [None] * 3, "its deadline has passed"


@pytest.mark.parametrize("name", ["stop", "resign"])
async def test_inside_a_step_on_the_loop_they_request_and_return(
    etcd: FakeEtcd, clock: VirtualClock, name: str
) -> None:
    async with leading(etcd, clock) as (manager, term):
        async with manager.step():
            asked_at = anyio.current_time()
            with anyio.fail_after(1):
                await getattr(manager, name)()
            assert anyio.current_time() == asked_at
            assert term.is_valid()
            with manager.step() as another:
                assert another is None
        await until(lambda: not term.is_valid(), timeout=CONFIG.retry)


@pytest.mark.parametrize("name", ["stop", "resign"])
async def test_inside_a_step_in_a_thread_they_request_and_return(
    etcd: FakeEtcd, clock: VirtualClock, name: str
) -> None:
    """In a thread of the application, which reaches the loop by its token."""
    async with leading(etcd, clock) as (manager, term):
        valid: list[bool] = []
        token = anyio.lowlevel.current_token()

        def step() -> None:
            with manager.step():
                anyio.from_thread.run(getattr(manager, name), token=token)
                valid.append(term.is_valid())

        thread = threading.Thread(target=step, daemon=True)
        thread.start()
        await threads_have(lambda: not thread.is_alive())
        assert valid == [True]
        await threads_have(lambda: not term.is_valid())


async def test_steps_of_many_threads_never_outlive_their_term(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Each looks, works and looks again, while leadership is given up over and over."""
    manager, inside, late, done = make(etcd, clock), list[Term](), list[Term](), threading.Event()
    counts = [0] * 4
    manager.on_ousted(lambda manager, term: late.extend(one for one in inside.copy() if one is term))

    def loop(number: int) -> None:
        while not done.is_set():
            with manager.step() as term:
                if term is not None:
                    inside.append(term)
                    counts[number] += 1
                    time.sleep(0.0001)
                    inside.remove(term)

    threads = [threading.Thread(target=loop, args=[number], daemon=True) for number in range(4)]
    async with manager:
        for thread in threads:
            thread.start()
        for _ in range(20):
            await manager.wait_elected()
            before = counts.copy()
            await threads_have(lambda before=before: all(map(int.__gt__, counts, before)))  # type: ignore[misc]
            await manager.resign()
        done.set()
        await threads_have(lambda: not any(thread.is_alive() for thread in threads))
    assert late == []


async def test_an_exception_ends_the_step_too(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        with pytest.raises(Boom):
            async with manager.step():
                raise Boom
        await manager.resign()
        assert not term.is_valid()


class Running:
    """Return what a step needs of its term: the steps that run in it."""

    term = None

    def __init__(self) -> None:
        self.steps: set[object] = set()

    def begin_step(self, step: object) -> bool:
        self.steps.add(step)
        return True

    def end_step(self, step: object) -> None:
        self.steps.discard(step)


@pytest.mark.parametrize("place", ["__enter__", "__exit__"])
def test_a_step_that_is_interrupted_at_its_beginning_or_end_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """By Ctrl-C, which Python raises between any two lines of the main thread."""

    @contextmanager
    def interrupted(scope: object) -> Iterator[None]:
        if place == "__enter__":
            raise KeyboardInterrupt
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr("etcdleader._managers.steps.on_behalf_of", interrupted)
    running = Running()
    with pytest.raises(KeyboardInterrupt), TermStep(lambda: running):  # type: ignore[arg-type, return-value]
        assert running.steps
    assert not running.steps


async def test_a_step_serves_one_block_at_a_time(etcd: FakeEtcd, clock: VirtualClock) -> None:
    async with leading(etcd, clock) as (manager, term):
        step = manager.step()
        with step, pytest.raises(RuntimeError, match=r"call manager\.step\(\) for each block"), step:
            pass
        with step as again:
            assert again is term
        await manager.resign()


async def test_in_a_forked_child_no_step_begins_and_that_of_the_parent_ends_quietly(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """Even if another thread of the parent was in the middle of a change of the counter."""
    async with leading(etcd, clock) as (manager, _):

        def fork() -> int:
            scope = manager._scope
            assert scope is not None
            with manager.step():
                if pid := os.fork():
                    return os.waitpid(pid, 0)[1]
                signal.alarm(10)
                scope._steps._lock.acquire()
                with manager.step() as inner:
                    seen = inner
            os._exit(seen is not None)

        assert await anyio.to_thread.run_sync(fork) == 0
        await manager.resign()


async def test_an_election_that_is_off_has_steps_too(steps: Steps) -> None:
    manager = NoopLeaderManager()
    step = steps(manager)
    async with group_of_threads(steps.end) as group:
        group.start_soon(manager.campaign)
        term = await manager.wait_elected()
        group.start_soon(anyio.to_thread.run_sync, step.in_a_thread)
        await threads_have(step.begun.is_set)
        group.start_soon(manager.stop)
        await anyio.sleep(3)
        assert term.is_valid()
        assert await step_of(manager) == [None] * 3
        step.may_end.set()
    assert term.loss_reason is LossReason.STOPPED
