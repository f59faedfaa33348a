"""Working standard streams, even if this process was started with some of them closed."""

from __future__ import annotations

import io
import os
import sys

_LAST = 2


def reopen_closed_streams() -> None:
    """Open /dev/null for each closed standard stream, and escape characters that the locale does not have.

    Otherwise the next socket would become standard output. Foreign text, such as identities, would end the command if
    the locale cannot encode it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _LAST:  # returns the lowest free descriptor
        os.set_inheritable(fd, True)  # noqa: FBT003 - the stdlib's signature
    os.close(fd)
    # Python sets a stream to None if its descriptor was closed.
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _opened(fd: int, mode: str) -> io.TextIOWrapper:
    stream = open(fd, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open until the process ends
    assert isinstance(stream, io.TextIOWrapper)
    return stream
