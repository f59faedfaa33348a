"""The transport of a connection: bytes in both directions. Each event loop has its own implementation."""

from __future__ import annotations

import os
import socket
import ssl
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from .._runtime.fork import AtFork, on_fork

HUNG_UP = "the peer hung up while the connection was being opened"

CONNECTION_LOST = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""The exceptions that end the tasks of a transport when it breaks."""


class Transport(ABC):
    """A byte stream to one peer, over TCP or TLS.

    Attributes:
        tasks: Functions to run while it is open. Each raises one of ``CONNECTION_LOST`` when the transport breaks.
    """

    tasks: Sequence[Callable[[], Awaitable[None]]]

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], bool]) -> None:
        """Create a transport that is not connected.

        Args:
            take: Returns the bytes to send now, and empties its buffer.
            received: Is called with received bytes. It returns True if it must be called again soon, without bytes.
                Until then no more bytes are read.
        """
        self._data_to_send = take
        self._data_received = received
        self._fd = -1
        self._file: object = None

    @abstractmethod
    async def open(self, connected: socket.socket, name: str, context: ssl.SSLContext | None) -> None:
        """Take over a connected socket to a peer with this name, with TLS if a context is given.

        The transport closes the socket, even if this method fails.

        Raises:
            OSError: TLS fails (``ssl.SSLError``).
        """

    def _set_fileno(self, descriptor: int) -> None:
        _open.add(self)
        with suppress(OSError):  # the peer may have hung up, and the loop has closed the socket
            self._fd, self._file = descriptor, _file_of(descriptor)

    @property
    def fileno(self) -> int:
        """The socket's file descriptor; -1 once the loop has closed the socket, since its number may be reused."""
        with suppress(OSError):
            if _file_of(self._fd) == self._file:
                return self._fd
        return -1

    @abstractmethod
    def schedule_flush(self) -> None:
        """Send the waiting bytes, together with all that are added in this event-loop iteration."""

    def schedule_flush_later(self) -> None:
        """Send the waiting bytes soon. No caller waits for them."""
        self.schedule_flush()

    def flush(self) -> None:
        """Send the waiting bytes at once. Use it if no other caller is about to send."""
        self.schedule_flush()

    async def aclose(self) -> None:
        """Close the connection at once."""
        _open.discard(self)
        # A forked child may have the descriptor, too. Then closing ours alone would not end the connection.
        # A duplicate is used because a socket that the loop owns must not be shut down directly.
        with suppress(OSError), socket.socket(fileno=socket.dup(self.fileno)) as same:
            same.shutdown(socket.SHUT_RDWR)
        await self._close()

    @abstractmethod
    async def _close(self) -> None: ...


def _file_of(descriptor: int) -> object:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


_open: weakref.WeakSet[Transport] = weakref.WeakSet()


def _forked() -> None:
    """Detach a forked child from its inherited connections, without any effect on the peer.

    The child may still run code of its parent's event loop, as it does when it leaves it by ``sys.exit``. With its
    sockets replaced, that code can do none of these:

    - Send bytes in the parent's name.
    - Read bytes that were sent to the parent.
    - Remove the parent's sockets from the loop's selector, which both processes share.

    On trio, such a child still takes events from the shared selector. This library cannot prevent that.
    """
    unconnected, other = socket.socketpair()
    other.close()
    for transport in list(_open):
        with suppress(Exception):
            os.dup2(unconnected.fileno(), transport.fileno)
    unconnected.close()


on_fork(AtFork.SOCKETS, _forked)
