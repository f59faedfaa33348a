"""The transport of a connection: bytes in both directions. Each event loop has its own implementation."""

from __future__ import annotations

import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

__all__ = ("HUNG_UP", "Wire")

HUNG_UP = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""The exceptions that end the tasks of a transport when it breaks."""


class Wire(ABC):
    """A byte stream to one peer, over TCP or TLS.

    Attributes:
        tasks: Functions to run while it is open. Each ends with one of ``HUNG_UP`` when the transport breaks.
    """

    tasks: Sequence[Callable[[], Awaitable[None]]]

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], None]) -> None:
        """Create a transport that is not connected.

        Args:
            take: Returns the bytes to send now, and empties its buffer.
            received: Is called with the bytes that arrive.
        """
        self._take = take
        self._received = received
        self._number = -1
        self._file: object = None

    @abstractmethod
    async def open(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect, with TLS if a context is given.

        Raises:
            OSError: No address of the host accepts a connection, or TLS fails (``ssl.SSLError``).
        """

    def _holds(self, descriptor: int) -> None:
        self._number, self._file = descriptor, _file_of(descriptor)

    @property
    def descriptor(self) -> int:
        """The socket's descriptor; -1 once the loop has closed the socket and the number may belong to another file."""
        with suppress(OSError):
            if _file_of(self._number) == self._file:
                return self._number
        return -1

    @abstractmethod
    def wake(self) -> None:
        """Send what there is to take, together with all that is added in this iteration of the event loop."""

    def wake_later(self) -> None:
        """Send what there is to take soon. No caller waits for it."""
        self.wake()

    def send_now(self) -> None:
        """Send what there is to take at once. No other caller is about to send."""
        self.wake()

    async def aclose(self) -> None:
        """Close the connection at once."""
        # A forked child may hold the descriptor, too. Then closing ours alone would not end the connection.
        # A duplicate is used because a socket of the loop must not be shut down directly.
        with suppress(OSError), socket.socket(fileno=socket.dup(self.descriptor)) as same:
            same.shutdown(socket.SHUT_RDWR)
        await self._close()

    @abstractmethod
    async def _close(self) -> None: ...


def _file_of(descriptor: int) -> object:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
