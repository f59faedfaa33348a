"""The transport over anyio's streams, used on trio: two tasks move the bytes."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream, SocketAttribute

from .._runtime.events import LightEvent
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
        try:
            self._stream = await _connected(host, port, context)
        except OSError as error:
            if (cause := _first_cause(error)) is error:
                raise
            raise OSError(*cause.args) from error
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
    if context is None:
        return await anyio.connect_tcp(host, port)
    return await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False, tls_hostname=host)


def _first_cause(error: OSError) -> OSError:
    """Return the error of the first address: anyio's own error says only that all attempts failed."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause if isinstance(cause, OSError) else error
