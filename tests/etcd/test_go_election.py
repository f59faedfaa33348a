"""The test of the Go package that this library mirrors, shortened: many candidates, one counter, no gap and no double.

Leadership is all that keeps the counter together: it is read and written without any condition.
"""

from __future__ import annotations

import random

import anyio
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, Term
from etcdleader._lease import shared_connection as connections
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CANDIDATES = 50
ENOUGH = 40
"""Terms. There are some five in a second."""
PATIENCE = 60
CONFIG = Config(enabled=True, id="candidate", lease=3, renew=1, retry=0.5)


def unequal_configs(server: EtcdServer) -> list[EtcdConfig]:
    """Endpoints of the same etcd of which no two are equal: each manager that receives one has its own connection."""
    address = server.endpoints[0]
    by_name = address.replace("127.0.0.1", "localhost")
    return [
        EtcdConfig(endpoints, allow_plaintext_password=allowed)
        for endpoints in ([by_name], [by_name, address], [address, by_name])
        for allowed in (False, True)
    ]


async def test_fifty_candidates_append_consecutive_integers(etcd_server: EtcdServer, election_key: str) -> None:
    """Each leader takes the counter, works a while, extends, then appends its run and puts the counter back."""
    numbers: list[int] = []
    counter = 0
    terms: list[int] = []
    open_at_once = 0
    alone = unequal_configs(etcd_server)[: CANDIDATES // 10]
    chance = random.Random(7)

    async def lead(manager: EtcdLeaderManager, term: Term) -> bool:
        """One run of integers; False to drop out for good."""
        nonlocal counter, open_at_once
        terms.append(term.token)
        open_at_once = max(open_at_once, len(connections._pool))
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
        # A tenth of them is alone on its connection, so that leadership also passes between connections.
        client = alone[number // 10] if number % 10 == 0 else etcd_server.config
        manager = EtcdLeaderManager(client, CONFIG, election_key)
        async with manager:
            while True:
                term = await manager.wait_elected()
                if not await lead(manager, term):
                    return
                await manager.resign()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for number in range(CANDIDATES):
                group.start_soon(candidate, number)
            while len(terms) < ENOUGH or not numbers:
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    assert open_at_once == 1 + CANDIDATES // 10, "leadership cannot have passed between connections"
    assert terms == sorted(terms)
    assert len(set(terms)) == len(terms)
    assert numbers == list(range(len(numbers)))
