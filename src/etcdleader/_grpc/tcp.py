"""TCP connections: a host's addresses are tried concurrently, and the first that accepts wins (RFC 8305)."""

from __future__ import annotations

import errno
import functools
import os
import socket
from typing import Any

import anyio

from .._runtime.events import Event
from .._runtime.tasks import ProtectedTaskGroup
from .._runtime.threads import run_in_thread

_NEXT_ADDRESS_SECONDS = 0.25
"""Seconds until the host's next address is tried concurrently (RFC 8305)."""


async def connect_tcp(host: str, port: int) -> socket.socket:
    """Return a connected, non-blocking socket.

    asyncio's own function leaks sockets when it is cancelled. anyio's function connects in tasks in which trio may
    raise KeyboardInterrupt. Our connections are opened in a system task, which must not raise it.

    Raises:
        OSError: No address accepts a connection. The error is that of the first attempt that failed.
    """
    addresses = await _addresses(host, port)
    won: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(family: int, address: Any, over: Event) -> None:
        one: socket.socket | None = None
        try:
            one = socket.socket(family, socket.SOCK_STREAM)  # fails without such a family, or without free descriptors
            one.settimeout(0)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # some loops do not set it on a given socket
            await _connect(one, address)
            won.append(one)
            group.cancel_scope.cancel()
        except OSError as error:
            errors.append(error)
        finally:
            if one is not None and won[:1] != [one]:
                one.close()
            over.set()

    try:
        async with ProtectedTaskGroup() as group:
            for family, address in addresses:
                over = Event()
                group.start_soon(attempt, family, address, over)
                await over.wait_for(_NEXT_ADDRESS_SECONDS)
    except BaseException:
        for one in won:
            one.close()
        raise
    if not won:
        raise errors[0] if errors else OSError(f"{host} has no address")
    return won[0]


async def _connect(one: socket.socket, address: Any) -> None:
    number = one.connect_ex(address)
    if number == errno.EINPROGRESS:
        await anyio.wait_writable(one)
        number = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, f"{os.strerror(number)}: {address}")


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    find = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = find(flags=socket.AI_NUMERICHOST)  # a numeric address needs no name resolution in a thread
    except socket.gaierror:
        found = await run_in_thread(find, "name resolution")
    return [(family, address) for family, *_, address in found]
