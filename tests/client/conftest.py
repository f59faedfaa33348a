"""Fixtures: watches of a connection on scripted streams, closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.client.watching import World


@pytest.fixture
async def world(anyio_backend: object) -> AsyncIterator[World]:
    world = World()
    yield world
    world.watches.close()
    await anyio.sleep(1)
