"""A log handler that never blocks the event loop."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from contextlib import suppress

from ..output import write_all

_MAX_QUEUE_BYTES = 256 * 1024
"""Bytes in the queue at most. They suffice for thousands of lines, and bound the memory of a long-running program."""
_FLUSH_TIMEOUT_SECONDS = 1.0
"""Seconds for which the exit of the process waits for the reader."""


class QueuedHandler(logging.Handler):
    """A handler whose thread writes the lines to a file descriptor.

    If the reader stops, as behind a full pipe or on a terminal after Ctrl-S, only that thread blocks. Renewals, signals
    and the supervision of the command continue. While the queue is full, further lines are dropped and counted. The
    count is logged as soon as the reader reads again.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write, name="etcdleader log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it if the queue is full."""
        try:
            line = self._line(record)
        except Exception as error:  # noqa: BLE001 - a faulty record must not end its caller
            line = f"a log line of {record.name} cannot be formatted: {error!r}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(line) > _MAX_QUEUE_BYTES:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, at most for a second: the reader may never read again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes and not self._dropped, _FLUSH_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Let the thread end after it has written all lines. Do not wait for it, because its write may never end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _write(self) -> None:
        # The main thread handles signals, because this thread may be blocked in a write.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (line := self._next()) is not None:
            with suppress(OSError):  # the reader has exited, or the disk is full
                write_all(self._fd, line)
            with self._changed:
                self._bytes -= len(line)
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._dropped or self._closed)
            if self._lines:
                return self._lines.popleft()
            if not self._dropped:
                return None
            dropped, self._dropped = self._dropped, 0
            text = "%d log lines were dropped, because stderr was not read"
            line = self._line(logging.LogRecord("etcdleader.run", logging.WARNING, __file__, 0, text, (dropped,), None))
            self._bytes += len(line)
            return line
