"""Connections to unix sockets."""

from __future__ import annotations

import errno
import os
import socket

import anyio

_PREFIX = "unix:"
_RETRY_SECONDS = 0.01
"""Seconds until the next attempt if the peer's queue of connections is full."""


def unix_path(authority: str) -> str | None:
    """Return the path in ``unix:/path``; None for ``host:port``."""
    return authority.removeprefix(_PREFIX) if authority.startswith(_PREFIX) else None


def is_unix(connected: socket.socket) -> bool:
    """Return whether a socket is a unix socket. Windows has none in Python."""
    return connected.family == getattr(socket, "AF_UNIX", None)


async def connect_unix(path: str) -> socket.socket:
    """Return a connected, non-blocking socket.

    Raises:
        OSError: The socket does not exist, may not be used, or no process accepts connections at it.
    """
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.settimeout(0)
        while (number := one.connect_ex(path)) == errno.EAGAIN:  # noqa: ASYNC110 - no event reports that there is room
            await anyio.sleep(_RETRY_SECONDS)
    except BaseException:
        one.close()
        raise
    if number:
        one.close()
        raise OSError(number, f"{os.strerror(number)}: {path}")
    return one
