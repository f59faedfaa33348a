"""The bytes of one connection, in both directions, as each event loop does it best.

On asyncio by a protocol (``transport_asyncio.py``): what comes is taken where the loop reads it, and what is to be sent leaves in
the next pass. By anyio's streams each would go through a task of its own, one or two passes of the loop more, which is half of
what a call costs. trio knows streams only.
"""

from __future__ import annotations

import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute

from .._runtime.events import LightEvent, running_trio

__all__ = ("HUNG_UP", "Wire", "open_wire")

HUNG_UP = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What its tasks end with."""
_READ = 2**16


class Wire(ABC):
    """A connection that stands.

    Attributes:
        tasks: What is to run for as long as it stands. Each ends with one of ``HUNG_UP`` when it breaks.
    """

    tasks: Sequence[Callable[[], Awaitable[None]]]

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        """Not yet.

        Args:
            take: Hands over what is to be sent.
            received: Takes what came.
        """
        self._take = take
        self._received = received
        self._number = -1
        self._file: object = None

    def _holds(self, descriptor: int) -> None:
        self._number, self._file = descriptor, _file_of(descriptor)

    @property
    def descriptor(self) -> int:
        """The socket's; -1 when the loop has closed it, and its number may be that of another file."""
        with suppress(OSError):
            if _file_of(self._number) == self._file:
                return self._number
        return -1

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


class _StreamWire(Wire):
    def __init__(self, stream: ByteStream, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        super().__init__(take, received)
        self.tasks = (self._read, self._write)
        self._holds(stream.extra(SocketAttribute.raw_socket).fileno())  # noqa: S610 - Django's is another one
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
        await anyio.aclose_forcefully(self._stream)


def _file_of(descriptor: int) -> object:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


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
        from .transport_asyncio import open_on_asyncio  # whoever runs on trio has no asyncio loaded

        return await open_on_asyncio(host, port, context, take, received)
    if context is None:
        return _StreamWire(await anyio.connect_tcp(host, port), take, received)
    stream = await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False, tls_hostname=host)
    return _StreamWire(stream, take, received)
