"""Log lines that wait for their reader instead of the event loop."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from contextlib import suppress

from ..output import write_all

_MOST = 256 * 1024
"""Bytes that may wait. That is thousands of lines, and a program that has run for months keeps no more."""
_FLUSH = 1.0
"""Seconds for which the end of the process waits for the reader."""


class QueuedHandler(logging.Handler):
    """A handler whose thread writes the lines to a file descriptor.

    A reader that stops reading, as a full pipe or a terminal after Ctrl-S, blocks that thread only. Renewals, signals
    and the supervision of the command go on. Lines that find the queue full are dropped and counted. The count is
    logged as soon as the reader reads again.
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
        """Queue a line, or drop it."""
        try:
            line = self._line(record)
        except Exception as error:  # noqa: BLE001 - a faulty record must not end what logs it
            line = f"a log line of {record.name} cannot be formatted: {error!r}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(line) > _MOST:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, but not long: the reader may never read again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes and not self._dropped, _FLUSH)

    def close(self) -> None:
        """End the thread when it has written all lines. It may be in a write that never ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _write(self) -> None:
        # Signals are for the main thread: this one may be blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (line := self._next()) is not None:
            with suppress(OSError):  # the reader is gone, or the disk is full
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
            text = "%d log lines were dropped, because the reader of stderr did not read"
            line = self._line(logging.LogRecord("etcdleader.run", logging.WARNING, __file__, 0, text, (dropped,), None))
            self._bytes += len(line)
            return line
