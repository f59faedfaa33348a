"""The transport over anyio's streams, used on trio: two tasks move the bytes."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from .._runtime.events import LightEvent
from .tcp import connect_tcp
from .transport import Wire

__all__ = ("StreamWire",)

_READ = 2**16


class StreamWire(Wire):
    """A transport over a ``ByteStream``."""

    _stream: ByteStream

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        super().__init__(take, received)
        self.tasks = (self._read, self._write)
        self._wake = LightEvent()

    async def open(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect, with TLS if a context is given."""
        self._stream = await _connected(host, port, context)
        self._holds(self._stream.extra(SocketAttribute.raw_socket).fileno())  # noqa: S610 - Django's is another one

    def wake(self) -> None:
        """Wake the task that sends."""
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


async def _connected(host: str, port: int, context: ssl.SSLContext | None) -> ByteStream:
    stream = await SocketStream.from_socket(await connect_tcp(host, port))
    if context is None:
        return stream
    try:
        return await TLSStream.wrap(stream, hostname=host, ssl_context=context, standard_compatible=False)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
