"""Time that passes only when everybody waits, so that ten minutes of an election take milliseconds and no test depends
on how fast the machine is.

With pytest and anyio's plugin::

    @pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda backend: backend[0])
    def anyio_backend(request: pytest.FixtureRequest) -> Any:
        return virtual_backend(request.param)

Virtual time knows nothing of threads and sockets: while any timer is set, a loop with nothing to do jumps to it, even
if a worker thread is about to finish. With no timer set it waits for the thread, in real time. So code on virtual time
must do its I/O in memory, as :class:`~etcdleader.testing.FakeEtcd` does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Literal

import anyio.lowlevel

__all__ = ("VIRTUAL_BACKENDS", "VirtualClock", "VirtualTimeLoop", "virtual_backend")

VIRTUAL_BACKENDS: tuple[Literal["asyncio", "trio"], ...] = ("asyncio", "trio")
"""The event loops that can run on virtual time."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where asyncio would sleep until its next timer, time jumps there instead."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # No timer is set: only a thread or a socket can wake this loop.
            return super().select(None)
        # What is there already goes first; the wake-ups of other threads come in here, too.
        ready = super().select(0)
        if not ready and timeout > 0:
            self.time += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time, which starts at 0. It is its own ``loop_factory``."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.time


def virtual_backend(name: Literal["asyncio", "trio"]) -> tuple[str, Mapping[str, Any]]:
    """Backend and options, new for each run, as ``anyio.run`` and the fixture ``anyio_backend`` take them.

    ``anyio.run`` before 4.14 passes no options to trio: use ``trio.run(function, **options)`` there.
    """
    if name == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}


class VirtualClock:
    """A process's clock, as a manager is given it: it follows the running loop's time, until a test moves it apart.

    It may be read from any thread.
    """

    def __init__(self, rate: float = 1.0) -> None:
        """Read the same as the running loop, from now on at ``rate``."""
        self._loop_time = _time_of_this_loop()
        self._rate = rate
        self._set_at = self._set_to = self._loop_time()

    def __call__(self) -> float:
        """The reading, in seconds."""
        return self._set_to + (self._loop_time() - self._set_at) * self._rate

    @property
    def rate(self) -> float:
        """Seconds that pass on it for each second of the loop. Setting it keeps the present reading."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.advance(0.0)
        self._rate = rate

    def advance(self, seconds: float) -> None:
        """Move ahead of the loop: what a suspended machine finds when it wakes up."""
        now = self() + seconds
        self._set_at, self._set_to = self._loop_time(), now


def _time_of_this_loop() -> Callable[[], float]:
    """The running loop's time as a function that other threads can call, unlike ``anyio.current_time``."""
    # Raises where no loop runs, with words that say so.
    anyio.lowlevel.current_token()
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        import trio

        return trio.lowlevel.current_clock().current_time
