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

CONNECTION_LOST = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""The exceptions that end the tasks of a transport when it breaks."""


class Transport(ABC):
    """A byte stream to one peer, over TCP or TLS.

    Attributes:
        tasks: Functions to run while it is open. Each ends with one of ``HUNG_UP`` when the transport breaks.
    """

    tasks: Sequence[Callable[[], Awaitable[None]]]

    def __init__(self, take: Callable[[], bytes], received: Callable[[bytes], bool]) -> None:
        """Create a transport that is not connected.

        Args:
            take: Returns the bytes to send now, and empties its buffer.
            received: Is called with the bytes that arrive. It returns True if it is to be called again soon, with no
                bytes: until then no more are read.
        """
        self._data_to_send = take
        self._data_received = received
        self._fd = -1
        self._file: object = None

    @abstractmethod
    async def open(self, connected: socket.socket, name: str, context: ssl.SSLContext | None) -> None:
        """Use a connected socket, with TLS if a context is given, to a peer with this name. The socket is closed here.

        Raises:
            OSError: TLS fails (``ssl.SSLError``).
        """

    def _set_fileno(self, descriptor: int) -> None:
        _open.add(self)
        with suppress(OSError):  # the peer may have hung up, and the loop has closed the socket
            self._fd, self._file = descriptor, _file_of(descriptor)

    @property
    def fileno(self) -> int:
        """The socket's descriptor; -1 once the loop has closed the socket and the number may belong to another file."""
        with suppress(OSError):
            if _file_of(self._fd) == self._file:
                return self._fd
        return -1

    @abstractmethod
    def schedule_flush(self) -> None:
        """Send what there is to take, together with all that is added in this iteration of the event loop."""

    def schedule_flush_later(self) -> None:
        """Send what there is to take soon. No caller waits for it."""
        self.schedule_flush()

    def flush(self) -> None:
        """Send what there is to take at once. No other caller is about to send."""
        self.schedule_flush()

    async def aclose(self) -> None:
        """Close the connection at once."""
        _open.discard(self)
        # A forked child may hold the descriptor, too. Then closing ours alone would not end the connection.
        # A duplicate is used because a socket of the loop must not be shut down directly.
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
    """What a child does to the connections that it inherited: it lets go of them, unseen by the other side.

    Whatever it runs of its parent's loop, as it does when it leaves by ``sys.exit`` inside of it, can then neither speak
    in the parent's name, nor read what was meant for the parent, nor take the parent's sockets out of the loop's
    selector, which the two share. (On trio it still takes events from there: that is between trio and who forks so.)
    """
    nobody, other = socket.socketpair()
    other.close()
    for wire in list(_open):
        with suppress(Exception):
            os.dup2(nobody.fileno(), wire.fileno)
    nobody.close()


on_fork(AtFork.SOCKETS, _forked)
