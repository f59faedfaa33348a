"""One member of etcd, and the way to it: a connection for its calls and its two streams, made anew when it broke."""

from __future__ import annotations

import functools
import math
import ssl
import time
from abc import ABC, abstractmethod
from typing import Any

import anyio

from .._grpc.connection import Http2
from .._grpc.framing import Metadata, Status
from .._runtime.tasks import LightEvent, spawn
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .error_mapping import NoTlsError, translated
from .rpcs import Method
from .stream import Http2Stream, Stream, StreamUse
from .tls import TlsExaminer, check_files, client_context

__all__ = ("DirectEndpoint", "Endpoint", "open_endpoint")

_CONNECTING = 5.0
"""Seconds that an attempt to connect may take, whoever waits for it, TLS and all."""


class Endpoint(ABC):
    """What calls and streams go to.

    Attributes:
        name: Its address.
        heard_at: When something came from it, by ``time.monotonic``: an answer, or a message on a stream.
    """

    name: str
    heard_at: float = -math.inf

    def heard(self) -> None:
        """Something came from it. Called as it comes, in gRPC's threads, too: the loop may be late to look."""
        self.heard_at = time.monotonic()

    @abstractmethod
    async def call(self, method: Method, request: Any, metadata: Metadata, timeout: float) -> Any:
        """Send one request and wait for its answer; cancelled, the request is withdrawn.

        Raises:
            EtcdLeaderError: What the error of gRPC's means.
        """

    @abstractmethod
    async def open_stream(self, method: Method, metadata: Metadata, use: StreamUse, timeout: float) -> Stream:
        """Open a stream. ``timeout`` bounds the making of a connection, where there is none.

        Raises:
            EtcdLeaderError: There is no connection, or no room on it.
        """

    @abstractmethod
    def leave(self) -> None:
        """Close it when the calls under way are over: one that does not answer *this* caller may answer others."""

    @abstractmethod
    def close(self) -> None:
        """End its calls and streams."""

    @abstractmethod
    async def closed(self) -> None:
        """Wait until nothing of it runs any more, once it was closed."""


class _Attempt:
    """To connect."""

    __slots__ = ("connection", "error", "over", "scope")

    def __init__(self) -> None:
        self.connection: Http2 | None = None
        self.over = LightEvent()
        self.error: EtcdLeaderError | None = None
        self.scope = anyio.CancelScope()


class DirectEndpoint(Endpoint):
    """A member that is spoken to without a client of gRPC's."""

    def __init__(self, name: str, config: EtcdConfig) -> None:
        """Nothing is opened yet."""
        self.name = name
        self._config = config
        self._examiner: TlsExaminer | None = TlsExaminer(name.removeprefix("https://"), config)
        self._connections: list[Http2] = []
        """All that have not ended: the newest is the last, and those before it end their calls."""
        self._attempt: _Attempt | None = None
        self._calls = 0
        self._left = False

    async def call(self, method: Method, request: Any, metadata: Metadata, timeout: float) -> Any:
        deadline = anyio.current_time() + timeout
        message = request.SerializeToString()
        self._calls += 1
        try:
            status, answer = await self._answer(method.path, metadata, message, deadline)
        finally:
            self._calls -= 1
            self._close_if_done()
        if status.code == "OK":
            self._examiner = None
            try:
                return method.answer(answer)
            except Exception as unreadable:  # of protobuf's
                raise EtcdUnavailableError(f"{self.name}: an answer that cannot be read: {unreadable}") from unreadable
        error = translated(status.code, status.details, self.name)
        if status.code == "UNAVAILABLE":
            error = await self._explained(error, deadline)
        raise error

    async def _answer(self, path: str, metadata: Metadata, message: bytes, deadline: float) -> tuple[Status, bytes]:
        again = False
        while True:
            connection = await self._connection(deadline)
            left = max(0.001, deadline - anyio.current_time())
            status, answer = await connection.call(path, metadata, message, left)
            if not status.untouched or again or self._left:
                return status, answer
            # It did nothing of it, and says so: a server that is about to end, or a connection that had just broken.
            again = True

    async def _explained(self, error: EtcdLeaderError, deadline: float) -> EtcdLeaderError:
        """A connection that fails may fail because of TLS, whatever it looks like."""
        if self._examiner is not None:
            with anyio.move_on_at(deadline):
                if (reason := await self._examiner.reason()) is not None:
                    error = NoTlsError(reason)
        if isinstance(error, NoTlsError):
            self.heard_at = -math.inf  # whatever it said before, it is no reason to stay
        return error

    async def open_stream(self, method: Method, metadata: Metadata, use: StreamUse, timeout: float) -> Stream:
        connection = await self._connection(anyio.current_time() + timeout)
        return Http2Stream(method, metadata, use, self.name, connection)

    # The connection

    async def _connection(self, deadline: float) -> Http2:
        """The one that is open, or a new one.

        Raises:
            EtcdLeaderError: There is none.
        """
        if (connection := self._open_one()) is not None:
            return connection
        # The attempt is everybody's, and outlives whoever asked first: with little patience each, none would ever get there.
        # Who waited for one that failed makes no other one: in an outage there may be thousands.
        if (attempt := self._attempt) is None:
            attempt = self._attempt = _Attempt()
            spawn(functools.partial(self._try, attempt), "etcdleader connecting", self._attempt_is_over)
        await attempt.over.wait_for(max(0.0, deadline - anyio.current_time()))
        if not attempt.over.is_set():
            raise EtcdUnavailableError(f"{self.name}: no connection in time")
        if (connection := self._open_one() or attempt.connection) is not None:
            return connection
        if attempt.error is not None:
            raise type(attempt.error)(*attempt.error.args)
        raise EtcdUnavailableError(f"{self.name}: the attempt to connect was cancelled")

    def _attempt_is_over(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.over.set()

    async def _try(self, attempt: _Attempt) -> None:
        deadline = attempt.scope.deadline = anyio.current_time() + _CONNECTING
        try:
            with attempt.scope:
                self._connections = [one for one in self._connections if not one.ended.is_set()]
                attempt.connection = await self._connect(deadline)
                self._connections.append(attempt.connection)
            if attempt.connection is None:
                attempt.error = EtcdUnavailableError(f"{self.name}: no connection within {_CONNECTING:g} s")
        except EtcdLeaderError as error:
            attempt.error = error
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to those who wait for a connection
            attempt.error = EtcdUnavailableError(f"{self.name}: no connection: {error!r}")

    def _open_one(self) -> Http2 | None:
        if self._left:
            raise EtcdUnavailableError(f"{self.name}: the connection was closed")
        return self._connections[-1] if self._connections and self._connections[-1].is_open else None

    async def _connect(self, deadline: float) -> Http2:
        connection = Http2(self.name.removeprefix("https://"), self.heard)
        context = self._context()
        try:
            await connection.connect(context)
        except OSError as error:
            unavailable = translated("UNAVAILABLE", str(error), self.name)
            raise await self._explained(unavailable, deadline) from error
        if self._left:
            connection.close()
            raise EtcdUnavailableError(f"{self.name}: the connection was closed")
        return connection

    def _context(self) -> ssl.SSLContext | None:
        """Made anew for each connection: certificates may have been renewed, and be wrong now."""
        if not self._config.tls:
            return None
        check_files(self._config)
        try:
            return client_context(self._config)
        except (OSError, ValueError) as error:  # it was replaced between the two
            raise EtcdUnavailableError(
                f"{self.name}: the certificates changed while they were read: {error}"
            ) from error

    # Its end

    def leave(self) -> None:
        self._leave()
        self._close_if_done()

    def _leave(self) -> None:
        self._left = True
        if self._attempt is not None:
            self._attempt.scope.cancel()

    def _close_if_done(self) -> None:
        if self._left and not self._calls:
            self.close()

    def close(self) -> None:
        self._leave()
        for connection in self._connections:
            connection.close()

    async def closed(self) -> None:
        if (attempt := self._attempt) is not None:
            await attempt.over.wait()
        for connection in self._connections:
            await connection.ended.wait()


def open_endpoint(endpoint: str, config: EtcdConfig) -> Endpoint:
    """Get ready to speak to a member. Nothing is sent yet; that the certificates can be used is found out now."""
    if config.tls:
        check_files(config)
    return DirectEndpoint(endpoint, config)
