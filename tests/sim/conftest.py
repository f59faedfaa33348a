"""Fixtures for tests on virtual time, in which ten minutes pass within milliseconds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, VirtualClock, virtual_backend


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
async def etcd(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[FakeEtcd]:
    """Provide an etcd of one member, without latency or faults. A test's parameter ``seed`` is its seed, too."""
    callspec = getattr(request.node, "callspec", None)
    async with FakeEtcd(seed=0 if callspec is None else callspec.params.get("seed", 0)) as fake:
        yield fake


@pytest.fixture
async def clock(anyio_backend: object) -> VirtualClock:
    """Provide a clock that follows the loop's time until a test changes it."""
    return VirtualClock()


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch, anyio_backend: tuple[str, Any]) -> Callable[[int], None]:
    """Make lease ids and the order of tasks depend on a seed. All other chance comes from the seed of the fake etcd."""

    def seed_all(seed: int) -> None:
        lease_ids = random.Random(seed)
        monkeypatch.setattr(random, "SystemRandom", lambda: lease_ids)
        if anyio_backend[0] == "trio":
            import trio._core._run

            monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
            trio._core._run._r.seed(seed)

    return seed_all
