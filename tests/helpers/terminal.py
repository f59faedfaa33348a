"""The command as a user types it: in a pipe, or in a separate terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.python_process import Python, run_python

__all__ = ("PATIENCE", "Terminal", "command", "environment", "run")

PATIENCE = 60.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the variables that affect the command or its colours."""
    steering = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM"}
    kept = {name: value for name, value in os.environ.items() if name not in steering}
    return {**{name: value for name, value in kept.items() if not name.startswith("ETCDLEADER_")}, **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "etcdleader", *arguments]


def run(*arguments: str, folder: Path, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, without a terminal, to its end."""
    return run_python(command(*arguments), folder, environment(**(variables or {})), seconds=PATIENCE)


class Terminal:
    """The command in a pseudo-terminal of 120 columns.

    Attributes:
        raw: All of its output.
        process: The process of the command.
    """

    def __init__(self, *arguments: str, folder: Path, **variables: str) -> None:
        self._arguments = arguments
        self._folder = folder
        self._variables = {"TERM": "xterm-256color", **variables}
        self._seen = 0
        self.raw = ""

    @property
    def text(self) -> str:
        """Return its output, without colours and cursor movements."""
        return ESCAPES.sub("", self.raw)

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = Python(
            command(*self._arguments),
            cwd=self._folder,
            env=environment(**self._variables),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read until the pattern appears after the previous one.

        This blocks, so an event loop's thread must not call it.
        """
        deadline = time.monotonic() + PATIENCE
        while (match := re.compile(pattern).search(self.text, self._seen)) is None:
            assert self._read(deadline), f"no {pattern!r} in:\n{self.text}"
        self._seen = match.end()
        return match

    def end(self) -> int:
        """Read to the end; return the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            some = os.read(self._master, 65536)
        except OSError:  # EIO: no process has the other side open any more
            return False
        self.raw += some.decode(errors="replace")
        return bool(some)
