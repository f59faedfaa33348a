"""Wake the event loop at each signal, so that Python runs the handler at once."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .events import running_trio

_READ_BYTES = 4096
"""Bytes to read at once: one for each signal."""


@contextmanager
def woken_by_signals() -> Iterator[None]:
    """Wake the running loop at each signal that Python handles. It must run in the main thread.

    Python runs handlers in the main thread only. The system may deliver a signal to any other thread, and the loop then
    continues to sleep. On trio and on Windows, the loop prevents that. asyncio does so for its own handlers only.
    """
    if running_trio() is not None or os.name == "nt":
        yield
        return
    import asyncio

    loop = asyncio.get_running_loop()
    reader, writer = socket.socketpair()

    def drain() -> None:
        with suppress(BlockingIOError):
            reader.recv(_READ_BYTES)

    with reader, writer:
        reader.settimeout(0)
        writer.settimeout(0)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        loop.add_reader(reader, drain)
        try:
            yield
        finally:
            loop.remove_reader(reader)
            signal.set_wakeup_fd(before)
