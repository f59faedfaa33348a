"""Which event loops the tests run on, and what Ctrl-C means in them."""

from __future__ import annotations

import signal

import pytest

# Started with nohup, or in the background of a script, a process ignores SIGINT or SIGHUP, and so do those that it starts. Python
# then makes no KeyboardInterrupt of it, and a test that sends it would wait for what never comes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell cannot trap what was ignored when it began


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The real loops. Folders that run on virtual time have a fixture of their own."""
    name: str = request.param
    return name
