"""The transport over anyio's streams, for trio: one task sends, another one receives."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, SocketAttribute, SocketStream, UNIXSocketStream
from anyio.streams.tls import TLSStream

from .._runtime.events import Event
from .transport import HUNG_UP, Transport
from .unix import is_unix

_READ = 2**16


class AnyioTransport(Transport):
    """A transport over a ``ByteStream``."""

    _stream: ByteStream

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], bool]) -> None:
        super().__init__(take, received)
        self.tasks = (self._read, self._write)
        self._wake = Event()

    async def open(self, connected: socket.socket, name: str, context: ssl.SSLContext | None) -> None:
        """Take over a connected socket, with TLS if a context is given."""
        self._stream = await stream_over(connected, name, context)
        self._set_fileno(self._stream.extra(SocketAttribute.raw_socket).fileno())  # noqa: S610 - Django's is another one

    def schedule_flush(self) -> None:
        """Wake the task that sends."""
        self._wake.set()

    async def _write(self) -> None:
        while True:
            self._wake = Event()
            if data := self._data_to_send():
                await self._stream.send(data)
            else:
                await self._wake.wait()

    async def _read(self) -> None:
        while True:
            more = self._data_received(await self._stream.receive(_READ))
            while more:
                await anyio.lowlevel.checkpoint()  # let other tasks run
                more = self._data_received(b"")

    async def _close(self) -> None:
        await anyio.aclose_forcefully(self._stream)


async def stream_over(connected: socket.socket, name: str, context: ssl.SSLContext | None) -> ByteStream:
    """Return a stream over a connected socket, with TLS if a context is given. On failure, the socket is closed.

    Raises:
        OSError: The peer has closed the connection, or TLS fails (``ssl.SSLError``).
    """
    try:
        kind = UNIXSocketStream if is_unix(connected) else SocketStream
        stream: ByteStream = await kind.from_socket(connected)
    except ValueError as error:  # anyio asks for the peer's address, and there is none once the peer has reset it
        connected.close()
        raise ConnectionError(HUNG_UP) from error
    except BaseException:
        connected.close()
        raise
    if context is None:
        return stream
    try:
        return await TLSStream.wrap(stream, hostname=name, ssl_context=context, standard_compatible=False)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
