"""Opening a connection: the only place that knows which event loop has which transport.

asyncio gets a protocol (``transport_asyncio.py``): bytes are taken where the loop reads them, and sent in the next
iteration. Through anyio's streams each message would pass a task of its own. That is one or two iterations more, half
of a call's cost. trio has streams only (``transport_anyio.py``).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from .._runtime.events import running_trio
from .transport import HUNG_UP, Wire

__all__ = ("connect",)


async def connect(
    authority: str, context: ssl.SSLContext | None, take: Callable[[], bytes], received: Callable[[bytes], None]
) -> Wire:
    """Connect to ``host:port``, with TLS if a context is given.

    Args:
        authority: The peer. An IPv6 address is in brackets.
        context: For TLS.
        take: Returns the bytes to send now, and empties its buffer.
        received: Is called with the bytes that arrive.

    Raises:
        OSError: No address of the host accepts a connection, or TLS fails (``ssl.SSLError``).
    """
    host, _, port = authority.rpartition(":")
    wire = _transport()(take, received)
    try:
        await wire.open(host.strip("[]"), int(port), context)
    except OSError:
        raise
    except (*HUNG_UP, ValueError) as error:  # ValueError: the name cannot be a host's
        raise ConnectionError(str(error) or "the peer hung up while the connection was made") from error
    return wire


def _transport() -> type[Wire]:
    # Both are imported late: a program on trio loads no asyncio.
    if running_trio() is None:
        from .transport_asyncio import ProtocolWire

        return ProtocolWire
    from .transport_anyio import StreamWire

    return StreamWire
