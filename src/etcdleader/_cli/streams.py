"""Standard streams that can be relied on, whatever this process was started with."""

from __future__ import annotations

import io
import os
import sys

_LAST = 2


def reopen_closed_streams() -> None:
    """Put /dev/null where a standard stream is closed, and let no character that the locale lacks end a command.

    Else the next socket would become standard output. And what is printed is partly what others wrote, as identities.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _LAST:  # the lowest that is free
        os.set_inheritable(fd, True)  # noqa: FBT003 - as it is
    os.close(fd)
    # Python has None where it found a stream closed.
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _opened(fd: int, mode: str) -> io.TextIOWrapper:
    stream = open(fd, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    assert isinstance(stream, io.TextIOWrapper)
    return stream
