"""The bytes of one connection, in both directions, as each event loop does it best.

On asyncio by a protocol: what comes is taken where the loop reads it, and what is to be sent leaves in the next pass. By
anyio's streams each would go through a task of its own, one or two passes of the loop more, which is half of what a call
costs. trio knows streams only.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, SocketAttribute

from .._loop import LightEvent, context_of_no_task, running_trio

__all__ = ("HUNG_UP", "Wire", "open_wire")

HUNG_UP = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What its tasks end with."""
_READ = 2**16
_NEXT_ADDRESS = 0.25
"""Seconds until another address of the host is tried beside the first one (RFC 8305)."""
_LATER = 0.01
"""Seconds. A request is likely to leave before, and what nobody waits for goes along."""
_CLOSING = 1.0


class Wire(ABC):
    """A connection that stands.

    Attributes:
        descriptor: The socket's; -1 when it is closed.
        tasks: What is to run for as long as it stands. Each ends with one of ``HUNG_UP`` when it breaks.
    """

    descriptor: int
    tasks: Sequence[Callable[[], Awaitable[None]]]

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        """Not yet.

        Args:
            take: Hands over what is to be sent.
            received: Takes what came.
        """
        self._take = take
        self._received = received

    @abstractmethod
    def wake(self) -> None:
        """There is something to take. What others want to send in this pass of the loop goes along."""

    def wake_later(self) -> None:
        """There is something to take, for which nobody waits."""
        self.wake()

    def send_now(self) -> None:
        """There is something to take, and nobody else who might want to send."""
        self.wake()

    async def aclose(self) -> None:
        """Hang up, at once."""
        # A forked child that knows nothing of us may hold the descriptor, too: to close ours would tell the other side nothing.
        # By a descriptor of its own: that of a loop's may not be used so.
        with suppress(OSError), socket.socket(fileno=socket.dup(self.descriptor)) as same:
            same.shutdown(socket.SHUT_RDWR)
        await self._close()

    @abstractmethod
    async def _close(self) -> None: ...


class _ProtocolWire(Wire, asyncio.Protocol):
    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        super().__init__(take, received)
        self.tasks = (self._wait_until_lost,)
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._woken = self._woken_later = False
        self._lost = LightEvent()
        self._why: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # that of another loop is none, and does the same
        self.descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.descriptor = -1  # the loop closes it now, and its number may be another file's soon
        self._why = exc
        self._lost.set()

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._send)

    def wake_later(self) -> None:
        if not (self._woken or self._woken_later):
            self._woken_later = True
            self._loop.call_later(_LATER, self._send)

    def _send(self) -> None:
        self._woken = self._woken_later = False
        self.send_now()

    def send_now(self) -> None:
        assert self.transport is not None
        if (data := self._take()) and not self.transport.is_closing():
            self.transport.write(data)

    async def _wait_until_lost(self) -> None:
        await self._lost.wait()
        raise self._why if isinstance(self._why, OSError) else ConnectionResetError("the member hung up")

    async def _close(self) -> None:
        assert self.transport is not None
        self.transport.abort()
        await self._lost.wait_for(_CLOSING)


class _StreamWire(Wire):
    def __init__(self, stream: ByteStream, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        super().__init__(take, received)
        self.tasks = (self._read, self._write)
        self.descriptor = stream.extra(SocketAttribute.raw_socket).fileno()  # noqa: S610 - Django's is another one
        self._stream = stream
        self._wake = LightEvent()

    def wake(self) -> None:
        self._wake.set()

    async def _write(self) -> None:
        while True:
            self._wake = LightEvent()
            if data := self._take():
                await self._stream.send(data)
            else:
                await self._wake.wait()

    async def _read(self) -> None:
        while True:
            self._received(await self._stream.receive(_READ))

    async def _close(self) -> None:
        self.descriptor = -1
        await anyio.aclose_forcefully(self._stream)


async def open_wire(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    take: Callable[[], bytes],
    received: Callable[[bytes], None],
) -> Wire:
    """Connect, with TLS if there is a context for it.

    Raises:
        OSError: There is nobody, or TLS fails (``ssl.SSLError``).
    """
    if running_trio() is None:
        return await _open_on_asyncio(host, port, context, take, received)
    if context is None:
        return _StreamWire(await anyio.connect_tcp(host, port), take, received)
    stream = await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False, tls_hostname=host)
    return _StreamWire(stream, take, received)


async def _open_on_asyncio(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    take: Callable[[], bytes],
    received: Callable[[bytes], None],
) -> Wire:
    loop = asyncio.get_running_loop()
    wire = _ProtocolWire(take, received)
    connected: socket.socket | None = await _connected(host, port, loop)
    options: dict[str, Any] = {"ssl": context, "server_hostname": host} if context is not None else {}

    async def attach() -> None:
        nonlocal connected
        mine, connected = connected, None
        await loop.create_connection(lambda: wire, sock=mine, **options)

    try:
        # In a context of its own: it is that of all that the protocol is told, later on, too.
        await loop.create_task(attach(), context=context_of_no_task())
    except BaseException:
        # Given up before the loop has taken it, or when it had just been made.
        if connected is not None:
            connected.close()
        if wire.transport is not None:
            wire.transport.abort()
        raise
    return wire


async def _connected(host: str, port: int, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Connect to whichever address of a host is the first to answer (RFC 8305).

    Not by asyncio's own way: cancelled, it forgets sockets.
    """
    addresses = await _addresses(host, port)
    won: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(family: int, address: Any, over: LightEvent) -> None:
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.settimeout(0)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # not every loop does so with a socket of others
            await loop.sock_connect(one, address)
            won.append(one)
            group.cancel_scope.cancel()
        except OSError as error:
            errors.append(error)
        finally:
            if won[:1] != [one]:
                one.close()
            over.set()

    try:
        async with anyio.create_task_group() as group:
            for family, address in addresses:
                over = LightEvent()
                group.start_soon(attempt, family, address, over)
                await over.wait_for(_NEXT_ADDRESS)
    except BaseException:
        for one in won:
            one.close()
        raise
    if not won:
        raise errors[0] if errors else OSError(f"{host} has no address")
    return won[0]


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    find = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = find(flags=socket.AI_NUMERICHOST)  # one that is no name needs no thread
    except socket.gaierror:
        found = await anyio.to_thread.run_sync(find, abandon_on_cancel=True)
    return [(family, address) for family, *_, address in found]
