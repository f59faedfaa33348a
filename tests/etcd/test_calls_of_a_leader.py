"""Calls of a program on its manager, on a real etcd: steps, an address, a named successor, metrics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdLeaderManager, LeaderManager, Term
from etcdleader.testing import EtcdServer
from tests.etcd.operators import until
from tests.helpers.otel import Collected

pytestmark = pytest.mark.anyio

Make = Callable[[str], EtcdLeaderManager]


@pytest.fixture
def make(etcd_server: EtcdServer, election_key: str) -> Make:
    def make(name: str) -> EtcdLeaderManager:
        # The lease does not run out while a test runs.
        config = Config(enabled=True, id=name, lease=60, renew=1, retry=5)
        return EtcdLeaderManager(etcd_server.config, config, election_key)

    return make


@asynccontextmanager
async def campaigning(*managers: EtcdLeaderManager) -> AsyncIterator[Term]:
    """Let the managers join the queue in this order. The first one leads."""
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        yield await managers[0].wait_elected()
        for manager in reversed(managers):
            await manager.stop()


async def test_leadership_is_handed_over_after_the_step_in_which_it_was_requested(make: Make) -> None:
    first, second = make("first"), make("second")
    async with campaigning(first, second) as term:
        async with first.step() as stepping:
            assert stepping is term
            await first.resign()
            assert first.is_leader(), "the step has not ended"
            async with first.step() as another:
                assert another is None
            candidates = await second.candidates()
            assert [one.identity for one in candidates] == [first.identity, second.identity]
        successor = await second.wait_elected()
        assert successor.token > term.token


async def test_every_candidate_can_read_the_address_of_the_leader(make: Make, operator: Any, election_key: str) -> None:
    first, second = make("first"), make("second")
    async with campaigning(first, second) as term:
        await first.advertise("http://10.0.0.1:8000")
        record = await second.leader()
        assert record is not None
        assert (record.identity, record.advertised) == (first.identity, "http://10.0.0.1:8000")
        assert second.known_leader == record
        value, _ = operator.get(term.key)
        assert json.loads(value) == {"id": first.identity, "advertise": "http://10.0.0.1:8000"}
        await first.advertise(None)
        await until(lambda: second.known_leader is not None and second.known_leader.advertised is None)
        value, _ = operator.get(term.key)
        assert value.decode() == first.identity
        assert term.is_valid()


async def test_a_named_candidate_leads_next_and_the_others_keep_their_order(make: Make) -> None:
    managers = [make(name) for name in "abcd"]
    a, b, c, d = managers
    async with campaigning(*managers):
        await a.resign(to=c.identity)
        await c.wait_elected()
        await until(lambda: a.statistics().queue_position is not None)
        queue = [one.identity for one in await d.candidates()]
        assert queue[:2] == [c.identity, d.identity]
        assert set(queue[2:]) <= {a.identity, b.identity}


async def test_metrics_that_are_added_later_report_a_term_on_etcd(make: Make, election_key: str) -> None:
    collected = Collected()
    manager = make("measured")
    manager.add_metrics(collected.metrics)

    async def work(manager: LeaderManager, term: Term) -> None:
        await anyio.sleep_forever()

    manager.on_elected(work)
    async with campaigning(manager) as term:
        assert collected("leader.count", election_key) == 1
        assert collected("term.token", election_key) == term.token
        await manager.extend()
    assert collected("leader.count", election_key) == 0
    assert collected("terms", election_key) == 1
