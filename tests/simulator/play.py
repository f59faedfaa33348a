"""Play a plan: the library runs on virtual time, with a simulated network below it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Literal, NoReturn
from unittest.mock import patch

import anyio
import anyio.lowlevel
import trio

from etcdleader._etcd import client, endpoint, tls_diagnosis
from etcdleader._grpc import connection
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import _time_of_this_loop, virtual_backend
from tests.simulator.faults import FAULTS
from tests.simulator.freezing import FreezableLoop, freezable
from tests.simulator.plan import Plan
from tests.simulator.world import Outcome, World

__all__ = ("play",)


def play(plan: Plan, backend: Literal["asyncio", "trio"]) -> Outcome:
    """Play a plan on virtual time. The same plan gives the same outcome."""

    async def main() -> Outcome:
        etcd = FakeEtcd(members=plan.members, election_timeout=plan.election_timeout, seed=plan.seed)
        async with AsyncExitStack() as stack:
            freezer = stack.enter_context(freezable())
            await stack.enter_async_context(etcd)
            group = await stack.enter_async_context(anyio.create_task_group())
            world = World(plan, etcd, freezer, group)
            with _replaced(world):
                await world.play(FAULTS)
            group.cancel_scope.cancel()
            return world.outcome
        raise AssertionError

    with _seeded(plan.seed):
        name, options = virtual_backend(backend)
        if name == "trio":
            return trio.run(main, **options)
        return anyio.run(main, backend=name, backend_options={**options, "loop_factory": FreezableLoop})


@contextmanager
def _replaced(world: World) -> Iterator[None]:
    """Put the network in the place of the library's sockets, and virtual time in the place of its clocks."""
    now = SimpleNamespace(monotonic=_time_of_this_loop())
    defaults: Any = client.EtcdClient.__init__.__kwdefaults__
    with (
        patch.object(connection, "connect", world.connect),
        patch.object(tls_diagnosis, "connect_tcp", _refuse),
        patch.object(connection, "time", now),
        patch.object(endpoint.Endpoint, "clock", staticmethod(now.monotonic)),
        patch.dict(defaults, clock=now.monotonic),
    ):
        yield


async def _refuse(host: str, port: int) -> NoReturn:
    """Refuse the connection by which the library looks for a TLS problem: no member uses TLS."""
    await anyio.lowlevel.checkpoint()
    raise ConnectionRefusedError(f"{host}:{port}: connection refused")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw all the library's random numbers, and trio's order of tasks, from a seed."""
    lease_ids = random.Random(seed)
    random.seed(seed)
    trio._core._run._r.seed(seed)
    with (
        patch.object(random, "SystemRandom", lambda: lease_ids),
        patch.object(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
    ):
        yield
