"""Open a connection, with the transport for the running event loop.

asyncio uses a protocol (``transport_asyncio.py``): bytes are processed where the loop reads them, and sent in the next
iteration. Through anyio's streams, each message would pass through a separate task. That takes one or two iterations
more, which is half of a call's cost. trio has streams only (``transport_anyio.py``).
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from .._runtime.events import running_trio
from .framing import LOCAL_AUTHORITY
from .tcp import connect_tcp
from .transport import CONNECTION_LOST, HUNG_UP, Transport
from .unix import connect_unix, unix_path

Tls = Callable[[], Awaitable[ssl.SSLContext]]
"""A function that returns a connection's SSL context. It is called once the peer has accepted the TCP connection."""


async def connect(
    authority: str, tls: Tls | None, take: Callable[[], bytes], received: Callable[[bytes], bool]
) -> Transport:
    """Connect to ``host:port`` or ``unix:/path``, with TLS if ``tls`` is given.

    Args:
        authority: The peer. An IPv6 address is in brackets.
        tls: Returns the SSL context.
        take: Returns the bytes to send now, and empties its buffer.
        received: Is called with received bytes. It returns True if it must be called again soon, without bytes.

    Raises:
        OSError: No address of the host accepts a connection, or TLS fails (``ssl.SSLError``).
    """
    transport = _transport()(take, received)
    path = unix_path(authority)
    try:
        if path is not None:
            host, connected = LOCAL_AUTHORITY, await connect_unix(path)
        else:
            host, _, port = authority.rpartition(":")
            host = host.strip("[]")
            connected = await connect_tcp(host, int(port))
        try:
            context = None if tls is None else await tls()
        except BaseException:
            connected.close()
            raise
        # Neither SNI nor a certificate has the final dot.
        await transport.open(connected, host.removesuffix("."), context)
    except OSError as error:
        if str(error):
            raise
        raise ConnectionError(f"{HUNG_UP} ({type(error).__name__})") from error
    except (*CONNECTION_LOST, ValueError) as error:  # ValueError: the name cannot be a host's
        raise ConnectionError(str(error) or HUNG_UP) from error
    return transport


def _transport() -> type[Transport]:
    # Both are imported late: a program on trio loads no asyncio.
    if running_trio() is None:
        from .transport_asyncio import AsyncioTransport

        return AsyncioTransport
    from .transport_anyio import AnyioTransport

    return AnyioTransport
