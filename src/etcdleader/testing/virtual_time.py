"""Virtual time: it passes only while all tasks wait.

Ten minutes of an election take milliseconds, and no test depends on the machine's speed.

With pytest and anyio's plugin::

    @pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda backend: backend[0])
    def anyio_backend(request: pytest.FixtureRequest) -> Any:
        return virtual_backend(request.param)

Virtual time ignores threads and sockets. While any timer is set, an idle loop jumps to it, even if a worker thread is
about to finish. Without a timer, the loop waits for the thread in real time. So code on virtual time must do its I/O in
memory, as :class:`~etcdleader.testing.FakeEtcd` does.
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
    """A selector that advances virtual time to asyncio's next timer instead of sleeping until then."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # No timer is set: only a thread or a socket can wake this loop.
            return super().select(None)
        # Ready sockets come first. They include the wake-ups of other threads.
        ready = super().select(0)
        if not ready and timeout > 0:
            self.time += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time, which starts at 0. The class is a ``loop_factory``."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._jumping.time


def virtual_backend(name: Literal["asyncio", "trio"]) -> tuple[str, Mapping[str, Any]]:
    """Return a backend and its options for ``anyio.run`` or the fixture ``anyio_backend``. Call it for each run.

    ``anyio.run`` before 4.14 passes no options to trio: use ``trio.run(function, **options)`` there.
    """
    if name == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}


class VirtualClock:
    """A process's clock, for a manager: it follows the running loop's time until a test changes it.

    Any thread may read it.
    """

    def __init__(self, rate: float = 1.0) -> None:
        """Start at the running loop's time, and advance at ``rate``."""
        self._loop_time = _time_of_this_loop()
        self._rate = rate
        self._set_at = self._set_to = self._loop_time()

    def __call__(self) -> float:
        """Return the clock's time, in seconds."""
        return self._set_to + (self._loop_time() - self._set_at) * self._rate

    @property
    def rate(self) -> float:
        """The seconds that pass on this clock for each second of the loop. Setting it keeps the present time."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.advance(0.0)
        self._rate = rate

    def advance(self, seconds: float) -> None:
        """Move the clock forward by so many seconds, as on a machine that wakes up from suspend."""
        now = self() + seconds
        self._set_at, self._set_to = self._loop_time(), now


def _time_of_this_loop() -> Callable[[], float]:
    """Return a function for the running loop's time. Unlike ``anyio.current_time``, any thread may call it."""
    # Raises a clear error if no loop is running.
    anyio.lowlevel.current_token()
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        import trio

        return trio.lowlevel.current_clock().current_time
