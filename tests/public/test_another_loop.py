"""Calls from the event loop of another thread: an error at once, with the right call in it, and never a wait without end."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from etcdleader import Config, EtcdLeaderError, LossReason, NoopLeaderManager, Term
from etcdleader.testing import FakeEtcd
from tests.sim.world import make

pytestmark = pytest.mark.anyio

LOOPS = ("asyncio", "trio")


class Thread:
    """A manager that campaigns on a separate loop, in a thread."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.manager = NoopLeaderManager(Config(lease=10, renew=2, retry=0.05), "jobs")
        self.token: Any = None
        self.stopped = False
        self.campaigns = threading.Event()
        self.go = threading.Event()
        self.thread = threading.Thread(target=anyio.run, args=(self._run,), kwargs={"backend": backend})

    async def _run(self) -> None:
        self.token = anyio.lowlevel.current_token()
        await anyio.to_thread.run_sync(self.go.wait)
        async with anyio.create_task_group() as group:
            group.start_soon(self._report_election)
            await self.manager.campaign()

    async def _report_election(self) -> None:
        await self.manager.wait_elected()
        self.campaigns.set()

    async def stop(self) -> None:
        """By the call that the error names."""
        self.stopped = True
        await anyio.to_thread.run_sync(partial(anyio.from_thread.run, self.manager.stop, token=self.token))


@asynccontextmanager
async def campaigning(backend: str, *, at_once: bool = True) -> AsyncIterator[Thread]:
    thread = Thread(backend)
    thread.thread.start()
    if at_once:
        thread.go.set()
        assert await anyio.to_thread.run_sync(thread.campaigns.wait, 60)
    try:
        yield thread
    finally:
        with anyio.CancelScope(shield=True):
            thread.go.set()
            await anyio.to_thread.run_sync(thread.campaigns.wait, 60)
            if not thread.stopped:
                await thread.stop()
            await anyio.to_thread.run_sync(thread.thread.join, 60)
        assert not thread.thread.is_alive()


async def lead(manager: NoopLeaderManager) -> None:
    async with manager.leading():
        raise AssertionError


CALLS: dict[str, Callable[[NoopLeaderManager], Awaitable[object]]] = {
    "stop": lambda manager: manager.stop(),
    "resign": lambda manager: manager.resign(),
    "wait_elected": lambda manager: manager.wait_elected(),
    "leading": lead,
    "extend": lambda manager: manager.extend(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("loop", LOOPS)
async def test_it_is_an_error_at_once_that_names_the_right_call(loop: str, call: str) -> None:
    async with campaigning(loop) as thread:
        with (
            anyio.fail_after(30),
            pytest.raises(RuntimeError, match=rf"from_thread\.run\(manager\.{call}, token=token"),
        ):
            await CALLS[call](thread.manager)
        assert thread.manager.is_leader()
        if call == "stop":
            with anyio.fail_after(30):
                await thread.stop()
            assert thread.manager.statistics().losses == {LossReason.STOPPED: 1}


@pytest.mark.parametrize("call", ["wait_elected", "leading"])
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_waiter_on_one_loop_for_a_campaign_on_another_gets_the_error(loop: str, call: str) -> None:
    async with campaigning(loop, at_once=False) as thread, anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                await CALLS[call](thread.manager)

        group.start_soon(wait)
        with anyio.fail_after(30):
            await anyio.wait_all_tasks_blocked()
            thread.go.set()


@pytest.mark.parametrize("loop", LOOPS)
async def test_what_needs_no_campaign_works_from_any_loop(loop: str) -> None:
    async with campaigning(loop) as thread:
        with anyio.fail_after(30):
            assert await thread.manager.leader() is not None
            async with thread.manager.observe() as leaders:
                assert await anext(leaders) is not None
                await thread.stop()
                assert await anext(leaders) is None
            await thread.manager.stop()  # nothing campaigns: it does nothing


@pytest.mark.parametrize("loop", LOOPS)
async def test_an_error_on_another_loop_is_reported_on_the_campaigns_loop(loop: str) -> None:
    """Such as that of ``observe()`` there."""
    async with campaigning(loop) as thread:
        received = anyio.Event()
        here, seen = anyio.lowlevel.current_token(), []

        @thread.manager.on_error
        async def receive(manager: object, error: Exception) -> None:
            await anyio.lowlevel.checkpoint()
            seen.append((anyio.lowlevel.current_token(), str(error)))
            await anyio.to_thread.run_sync(partial(anyio.from_thread.run_sync, received.set, token=here))

        thread.manager._reporter.on_error(EtcdLeaderError("trouble"))
        with anyio.fail_after(30):
            await received.wait()
    assert seen == [(thread.token, "trouble")]


async def test_the_manager_on_etcd_refuses_the_same() -> None:
    async with FakeEtcd() as etcd:
        manager = make(etcd, anyio.current_time)
        failures: list[str] = []

        async def call(name: str) -> None:
            try:
                await CALLS[name](manager)  # type: ignore[arg-type]
            except RuntimeError as error:
                failures.append(str(error))

        async with manager:
            await manager.wait_elected()
            for name in CALLS:
                await anyio.to_thread.run_sync(partial(anyio.run, call, name))
        assert [message.partition("(")[0] for message in failures] == list(CALLS)


async def test_the_calls_of_a_term_are_refused_there_too() -> None:
    """They change what the campaign's own loop uses, and may wait for a move of the key."""
    async with FakeEtcd() as etcd:
        manager = make(etcd, anyio.current_time)
        failures: list[str] = []
        calls: dict[str, Callable[[Term], Awaitable[object]]] = {
            "anyio.from_thread.run(term.attach, key, value, token=token)": lambda term: term.attach("status", "up"),
            "asyncio.run_coroutine_threadsafe(term.transaction(success, failure), loop)": lambda term: term.transaction(
                []
            ),
        }

        async def call(name: str, term: Term) -> None:
            try:
                await calls[name](term)
            except RuntimeError as error:
                failures.append(str(error))

        async with manager:
            term = await manager.wait_elected()
            revision = etcd.revision
            for name in calls:
                await anyio.to_thread.run_sync(partial(anyio.run, call, name, term))
            assert etcd.revision == revision
            token = anyio.lowlevel.current_token()
            await anyio.to_thread.run_sync(partial(anyio.from_thread.run, term.attach, "status", "up", token=token))
            assert etcd.keys()[b"status"].value == b"up"
        assert [name in message for name, message in zip(calls, failures, strict=True)] == [True, True]
