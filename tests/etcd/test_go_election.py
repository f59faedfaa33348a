"""The test of the Go package that this library mirrors, shortened: many candidates, one counter, no gap and no double.

Leadership is all that keeps the counter together: it is read and written without any condition.
"""

from __future__ import annotations

import math
import random

import anyio
import pytest

from etcdleader import Config, EtcdLeaderError, EtcdLeaderManager, Term
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CANDIDATES = 50
SECONDS = 6.0
CONFIG = Config(enabled=True, id="candidate", lease=3, renew=1, retry=0.5)


async def test_fifty_candidates_append_consecutive_integers(etcd_server: EtcdServer, election_key: str) -> None:
    """Each leader takes the counter, works a while, extends, then appends its run and puts the counter back."""
    numbers: list[int] = []
    counter = 0
    terms: list[int] = []
    chance = random.Random(7)

    async def lead(manager: EtcdLeaderManager, term: Term) -> bool:
        """One run of integers; False to drop out for good."""
        nonlocal counter
        terms.append(term.token)
        begin = counter
        await anyio.sleep(chance.uniform(0, 0.1))
        run = [begin + step for step in range(chance.randrange(1, 20))]
        try:
            await manager.extend(term)
        except EtcdLeaderError:
            return True
        numbers.extend(run)
        counter = begin + len(run)
        return chance.random() >= 0.15

    async def candidate(number: int) -> None:
        # A tenth of them is alone on its connection, so that the seat also passes between connections.
        manager = EtcdLeaderManager(etcd_server.config, CONFIG, election_key)
        async with manager:
            while True:
                term = await manager.wait_elected()
                if not await lead(manager, term):
                    return
                await manager.resign()

    with anyio.move_on_after(SECONDS):
        async with anyio.create_task_group() as group:
            for number in range(CANDIDATES):
                group.start_soon(candidate, number)

    assert len(terms) >= 10, "the seat has hardly moved: nothing was tested"
    assert terms == sorted(terms)
    assert len(set(terms)) == len(terms)
    assert numbers == list(range(len(numbers)))
    assert not math.isclose(len(numbers), 0)
