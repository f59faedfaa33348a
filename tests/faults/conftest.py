"""Fixtures of the tests that inject faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def aborted() -> Iterator[threading.Event]:
    """Ends the campaign when the test is interrupted."""
    event = threading.Event()
    yield event
    event.set()
