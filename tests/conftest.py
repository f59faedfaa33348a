"""Which event loops the tests run on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The real loops. Folders that run on virtual time have a fixture of their own."""
    name: str = request.param
    return name
