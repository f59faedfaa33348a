"""The whole program of ``manager.main()``: an event loop, signals that release leadership, and the exit status."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any, Self

import anyio

from .._runtime.events import is_loop_thread
from .._runtime.fork import process_id
from .._runtime.signals import woken_by_signals
from .._runtime.tasks import loop_scheduler
from .._values.exit_codes import ExitCode

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""A process that a signal has ended exits with this, plus the signal's number: the convention of shells."""


def run_main(run: Callable[[], Awaitable[Any]], request_stop: Callable[[], None], backend: str) -> Any:
    """Run a program on a new event loop, and return its result.

    Args:
        run: Runs the program.
        request_stop: Requests the end of ``run``. Called on the event loop, at the first signal.
        backend: The name of the event loop.

    Raises:
        RuntimeError: An event loop runs in this thread, or this is not the main thread.
        SystemExit: A signal was received, and the program has ended.
    """
    if is_loop_thread():
        raise RuntimeError("main() starts an event loop, and one runs in this thread: use `await manager.run(work)`")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "main() handles signals, which only the main thread can: use `anyio.run(manager.run, work)` in this thread"
        )
    with _Signals() as signals:

        async def program() -> Any:
            with woken_by_signals():
                signals.on_first(loop_scheduler(), request_stop)
                # A signal before this moment ends the program before it begins. There is no await up to the campaign.
                return None if signals.received is not None else await run()

        result = anyio.run(program, backend=backend)
    if signals.received is not None:
        raise SystemExit(ExitCode.SIGNAL + signals.received)
    return result


class _Signals:
    """Handlers of SIGTERM and SIGINT. The first signal requests the end, and the second one ends the process.

    Python's handlers run even if the event loop is blocked by Python code, so the second signal always works.

    Attributes:
        received: The number of the first signal; None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._process = process_id()
        self._previous: dict[int, Any] = {}
        self._request: Callable[[], None] | None = None

    def on_first(self, call_soon: Callable[..., None], request_stop: Callable[[], None]) -> None:
        """At the first signal from now on, call ``request_stop`` on the loop of ``call_soon``."""
        self._request = lambda: call_soon(request_stop)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            # A signal that is ignored stays so, as under nohup. None: C code has installed the handler.
            if previous is not signal.SIG_IGN and previous is not None:
                self._previous[number] = previous
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._process != process_id():
            # A child that the work has forked: the signal means what it would mean without main().
            signal.signal(number, self._previous[number])
            os.kill(os.getpid(), number)
        elif self.received is not None:
            os._exit(ExitCode.SIGNAL + number)
        else:
            self.received = number
            if self._request is not None:
                self._request()
