"""The contract of every manager, shown on the one that needs no etcd: campaigns, callbacks, scopes and ways out."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from etcdleader import (
    Config,
    ConfigError,
    LeaderManager,
    LeaderRecord,
    LeadershipLostError,
    LeaderStatus,
    LossReason,
    NoopLeaderManager,
    NotLeaderError,
    Term,
)
from etcdleader.model import HealthState
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


def make() -> NoopLeaderManager:
    return NoopLeaderManager(Config(lease=10, renew=2, retry=0.05), "jobs")


async def test_it_leads_while_it_campaigns_and_only_then() -> None:
    manager = make()
    assert not manager.is_leader()
    assert await manager.leader() is None
    async with manager as same:
        assert same is manager
        term = await manager.wait_elected()
        assert manager.is_leader()
        current = manager.term
        assert current is term
        assert (term.token, term.key, term.lease_id, term.identity) == (0, "", 0, "noop")
        assert term.remaining() == math.inf
        assert term.guard() == []
        assert await manager.extend(term) is term
        assert await manager.leader() == LeaderRecord("noop", 0, "", 0)
        assert await manager.candidates() == [LeaderRecord("noop", 0, "", 0)]
    assert not manager.is_leader()
    assert manager.term is None
    assert term.loss_reason is LossReason.STOPPED
    assert manager.status is LeaderStatus.OUSTED
    with pytest.raises(NotLeaderError):
        await manager.extend()
    with pytest.raises(LeadershipLostError):
        await manager.extend(term)


async def test_it_advertises_as_a_manager_on_etcd_does() -> None:
    async with NoopLeaderManager(Config(advertise="http://{host}:{pid}")) as manager:
        await manager.wait_elected()
        record = await manager.leader()
        assert record is not None
        assert record.advertised == manager.advertised == f"http://{socket.gethostname()}:{os.getpid()}"
        assert manager.known_leader == record
        await manager.advertise(None)
        assert (await manager.candidates())[0].advertised is None


async def test_one_info_line_reports_that_election_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "etcdleader")
    manager = make()
    for _ in range(2):
        async with manager:
            await manager.wait_elected()
    assert sum("is off" in record.message for record in caplog.records) == 1


async def test_a_transaction_has_nowhere_to_go() -> None:
    async with make() as manager:
        term = await manager.wait_elected()
        with pytest.raises(ConfigError, match="election is off"):
            await term.transaction([])


async def test_a_campaign_starts_at_once_and_returns_none_after_stop() -> None:
    manager = make()
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        await manager.wait_elected()
        await manager.stop()
        assert not manager.is_leader()
        await group.start(manager.campaign)
        assert (await manager.wait_elected()).is_valid()
        await manager.stop()


async def test_a_second_campaign_at_once_is_refused_at_once() -> None:
    manager = make()

    async def work(term: Term) -> None:
        raise AssertionError

    async with manager:
        with pytest.raises(anyio.BusyResourceError, match=r"^noop is campaigning for 'jobs' already"):
            await manager.campaign()
        with pytest.raises(anyio.BusyResourceError):
            await manager.run(work)
        assert (await manager.wait_elected()).is_valid()


async def test_stop_without_a_campaign_does_nothing_and_is_not_remembered() -> None:
    manager = make()
    await manager.stop()
    await manager.resign()
    async with manager:
        assert (await manager.wait_elected()).is_valid()


@pytest.mark.parametrize("how", ["plain", "async", "lambda of awaitable"])
async def test_callbacks_are_plain_or_async_and_awaitables_are_awaited(how: str) -> None:
    manager = make()
    records: list[str] = []

    async def later(word: str) -> None:
        await anyio.lowlevel.checkpoint()
        records.append(word)

    if how == "plain":
        manager.on_elected(lambda manager, term: records.append("elected"))
        manager.on_ousted(lambda manager, term: records.append("ousted"))
    elif how == "async":

        @manager.on_elected
        async def elected(manager: LeaderManager, term: Term) -> None:
            await later("elected")

        @manager.on_ousted
        async def ousted(manager: LeaderManager, term: Term) -> None:
            await later("ousted")

        assert callable(elected)
        assert callable(ousted)
    else:
        manager.on_elected(lambda manager, term: later("elected"))
        manager.on_ousted(lambda manager, term: later("ousted"))
    async with manager:
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
    assert records == ["elected", "ousted"]


async def test_a_callback_registered_by_a_callback_runs_from_the_next_term_on() -> None:
    manager = make()
    records: list[str] = []
    manager.on_elected(lambda m, t: manager.on_elected(lambda m, t: records.append("second")))
    async with manager:
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        assert records == []
        await manager.resign()
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        assert records == ["second"]


class Boom(Exception):
    """Of the user."""


async def boom(*args: object) -> None:
    raise Boom


@pytest.mark.parametrize("where", ["on_elected", "on_ousted", "work"])
async def test_what_callbacks_and_work_raise_ends_the_campaign_as_itself(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make()
    work: Callable[[Term], Awaitable[None]] = boom
    if where != "work":
        getattr(manager, where)(boom)

        async def work(term: Term) -> None:
            if where == "on_elected":
                await anyio.sleep_forever()

    with pytest.raises(Boom):
        await manager.run(work)
    assert manager.status is LeaderStatus.OUSTED
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_failed_campaign_cancels_the_body_and_is_raised_as_itself() -> None:
    manager = make()
    manager.on_elected(boom)
    reached = False
    with pytest.raises(Boom):
        async with manager:
            await anyio.sleep_forever()
            reached = True
    assert not reached


async def test_an_exception_of_the_body_comes_out_as_itself_after_the_release() -> None:
    manager = make()
    with pytest.raises(Boom):
        async with manager:
            term = await manager.wait_elected()
            raise Boom
    assert term.loss_reason is LossReason.STOPPED
    assert manager.status is LeaderStatus.OUSTED


async def test_users_own_groups_stay_groups() -> None:
    async def work(term: Term) -> None:
        raise ExceptionGroup("mine", [Boom()])

    with pytest.raises(ExceptionGroup, match="mine") as caught:
        await make().run(work)
    assert len(caught.value.exceptions) == 1


async def test_run_returns_what_the_work_returned() -> None:
    async def work(term: Term) -> str:
        return f"token {term.token}"

    manager = make()
    assert await manager.run(work) == "token 0"
    assert manager.status is LeaderStatus.OUSTED
    assert manager.statistics().losses == {LossReason.RESIGNED: 1}


async def test_run_returns_none_after_stop() -> None:
    manager = make()
    async with anyio.create_task_group() as group:
        results: list[object] = []

        async def run() -> None:
            async def work(term: Term) -> str:
                await anyio.sleep_forever()
                raise AssertionError

            results.append(await manager.run(work))

        group.start_soon(run)
        await manager.wait_elected()
        await manager.stop()
    assert results == [None]


async def test_work_that_calls_stop_is_cancelled_and_does_not_wait_for_itself() -> None:
    manager = make()

    async def work(term: Term) -> None:
        await manager.stop()
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        await manager.run(work)
    assert manager.statistics().losses == {LossReason.STOPPED: 1}


async def test_work_that_resigns_is_cancelled_and_the_candidate_rejoins() -> None:
    manager = make()
    terms: list[Term] = []

    async def work(term: Term) -> int:
        terms.append(term)
        if len(terms) == 1:
            await manager.resign()
            await anyio.sleep_forever()
        return len(terms)

    with anyio.fail_after(5):
        assert await manager.run(work) == 2
    assert terms[0].loss_reason is LossReason.RESIGNED


@pytest.mark.parametrize("name", ["stop", "resign"])
async def test_stop_and_resign_in_on_ousted_return_at_once(name: str) -> None:
    manager = make()
    returned: list[bool] = []

    @manager.on_ousted
    async def ousted(manager: LeaderManager, term: Term) -> None:
        await getattr(manager, name)()
        returned.append(True)

    with anyio.fail_after(5):
        async with manager:
            await manager.wait_elected()
    assert returned == [True]


async def test_observe_gives_the_state_now_and_each_change() -> None:
    manager = make()
    seen: list[LeaderRecord | None] = []
    async with manager.observe() as leaders:
        seen.append(await anext(leaders))
        async with manager:
            await manager.wait_elected()
            seen.append(await anext(leaders))
        seen.append(await anext(leaders))
    assert seen == [None, LeaderRecord("noop", 0, "", 0), None]


async def test_on_ousted_may_take_retry_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    manager = make()
    manager.on_ousted(lambda manager, term: anyio.sleep_forever())
    with anyio.fail_after(5):
        async with manager:
            await manager.wait_elected()
    assert any("on_ousted" in record.message for record in caplog.records)


async def test_it_is_healthy_for_as_long_as_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It renews nothing, so that no renewal was tried for long is no sign of a blocked loop."""
    manager = NoopLeaderManager()
    async with manager:
        await manager.wait_elected()
        monkeypatch.setattr(manager._reporter._health, "_clock", lambda: time.monotonic() + 3600)
        health = manager.health()
        assert (health.state, health.live, health.ready) == (HealthState.LEADING, True, True)
