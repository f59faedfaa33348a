"""The contract of every manager, shown on the one that needs no etcd: waiting for a term, and blocks that run in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from etcdleader import (
    Config,
    LeaderManager,
    LeadershipLostError,
    LossReason,
    NoopLeaderManager,
    NotLeaderError,
    Term,
)
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend
from tests.helpers.slow_work import work_until_cancelled

pytestmark = pytest.mark.anyio


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


class Boom(Exception):
    """Of the user."""


async def boom(*args: object) -> None:
    raise Boom


def make() -> NoopLeaderManager:
    return NoopLeaderManager(Config(lease=10, renew=2, retry=0.05), "jobs")


async def test_leading_runs_the_block_in_the_term_and_leaving_it_does_not_end_it() -> None:
    async with make() as manager:
        async with manager.leading() as term:
            assert term.is_valid()
        assert term.is_valid()
        async with manager.leading() as again:
            assert again is term


@pytest.mark.parametrize("reason", [LossReason.STOPPED, LossReason.RESIGNED])
async def test_the_end_of_the_term_cancels_a_leading_block_which_then_raises(reason: LossReason) -> None:
    manager = make()
    seen: list[bool] = []
    async with manager, anyio.create_task_group() as group:
        with pytest.raises(LeadershipLostError) as caught:
            async with manager.leading() as term:
                group.start_soon(manager.stop if reason is LossReason.STOPPED else manager.resign)
                try:
                    await anyio.sleep_forever()
                finally:
                    seen.append(term.is_valid())
    assert caught.value.term is term
    assert term.loss_reason is reason
    assert seen == [False], "marked before it is cancelled"


async def test_leadership_is_not_released_before_a_leading_block_has_ended() -> None:
    manager = make()
    order: list[str] = []
    manager.on_ousted(lambda manager, term: order.append("ousted"))
    async with manager, anyio.create_task_group() as group:

        async def lead() -> None:
            try:
                async with manager.leading():
                    try:
                        await work_until_cancelled(0.05)
                    finally:
                        order.append("work ended")
            except LeadershipLostError:
                order.append("raised")

        group.start_soon(lead)
        await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        await manager.resign()
        order.append("resigned")
    assert order.index("work ended") < order.index("ousted") < order.index("resigned")


async def test_waiting_before_the_campaign_begins_is_allowed() -> None:
    manager = make()
    terms: list[Term] = []

    async def wait() -> None:
        terms.append(await manager.wait_elected())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        async with manager:
            while not terms:
                await anyio.lowlevel.checkpoint()
            assert terms[0].is_valid()


async def test_waiting_with_no_campaign_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.move_on_after(0.5):
        await make().wait_elected()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1


async def test_waiters_learn_that_the_campaign_has_failed() -> None:
    manager = make()
    manager.on_elected(boom)
    with pytest.raises(NotLeaderError) as caught:
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                # The first one is there at once; the campaign behind it fails.
                term = await manager.wait_elected()
                while term.is_valid():
                    await anyio.lowlevel.checkpoint()
                await manager.wait_elected()

            async def campaign() -> None:
                with pytest.raises(Boom):
                    await manager.campaign()

            group.start_soon(campaign)
            try:
                await wait()
            except NotLeaderError as error:
                waited = error
            else:
                raise AssertionError
        raise waited
    assert isinstance(caught.value.__cause__, Boom)


async def test_cancelling_the_campaign_ends_the_term_joins_the_work_and_calls_on_ousted() -> None:
    manager = make()
    order: list[str] = []

    @manager.on_elected
    async def elected(manager: LeaderManager, term: Term) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append(f"cancelled, valid: {term.is_valid()}")

    manager.on_ousted(lambda manager, term: order.append("ousted"))
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        term = await manager.wait_elected()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert order == ["cancelled, valid: False", "ousted"]
    assert term.loss_reason is LossReason.STOPPED
    assert not manager.is_leader()
