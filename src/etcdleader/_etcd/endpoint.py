"""One etcd member, reached over one connection for calls and for the two streams. A broken connection is replaced."""

from __future__ import annotations

import functools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import anyio

from .._grpc import Connection, Metadata, RpcError, Status
from .._runtime.events import Event
from .._runtime.tasks import spawn_system_task
from .._values.addresses import needs_tls, unix_path
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .connect_policy import ConnectPolicy
from .error_mapping import TlsHandshakeError, error_from_status, going_away
from .rpcs import A, Q, Rpc
from .srv import SrvMembers
from .stream import Http2Stream, RpcStream, StreamCallbacks
from .tls import ClientContexts
from .tls_diagnosis import TlsDiagnosis

_USER_AGENT = "etcdleader"
_RESERVED_STREAMS = 2
"""The keep-alive stream and the watch stream. etcd itself allows any number of streams; a proxy may allow few."""
_CONNECT_TIMEOUT_SECONDS = 5.0
"""Timeout in seconds of an attempt to connect, TLS included, regardless of the callers that wait for it."""


class Endpoint(ABC):
    """The destination of calls and streams.

    Attributes:
        name: The member's address.
        clock: Returns seconds on a monotonic clock, in any thread.
        last_received_at: The time of the last data from the member, by that clock: a response, or a message on a stream.
    """

    name: str
    clock: Callable[[], float] = staticmethod(time.monotonic)
    last_received_at: float = -math.inf

    def on_data(self) -> None:
        """Record that data arrived. It is called on arrival, even in grpcio's threads, because the event loop may be late."""
        self.last_received_at = self.clock()

    @abstractmethod
    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        """Send one request and return its response. Cancellation cancels the request.

        Raises:
            EtcdLeaderError: The call failed. gRPC's error was mapped to this one.
        """

    @abstractmethod
    async def open_stream(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, timeout: float
    ) -> RpcStream:
        """Open a stream. ``timeout`` bounds connecting, if there is no connection yet.

        Raises:
            EtcdLeaderError: There is no connection, or it allows no more streams.
        """

    @abstractmethod
    def drain(self) -> None:
        """Accept no new calls, and close when the calls in progress have ended.

        An endpoint that does not respond to one caller may still respond to others.
        """

    @abstractmethod
    def close(self) -> None:
        """End all calls and streams."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until all of the closed endpoint's tasks and connections have ended."""


class _Attempt:
    """An attempt to connect."""

    __slots__ = ("connection", "error", "finished", "scope")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.finished = Event()
        self.error: EtcdLeaderError | None = None
        self.scope = anyio.CancelScope()


class Http2Endpoint(Endpoint):
    """A member reached over etcdleader's own HTTP/2 connection, without grpcio."""

    def __init__(
        self,
        name: str,
        config: EtcdConfig,
        policy: ConnectPolicy,
        contexts: ClientContexts,
        members: SrvMembers | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            name: The member's address, or a domain with SRV records.
            config: The client's configuration.
            policy: The member's back-off and ping interval.
            contexts: The client's TLS contexts.
            members: The members of the domain. Each connection is made to the next of them.
        """
        self.name = name
        self._members = members
        self._config = config
        self._policy = policy
        self._contexts = contexts
        self._tls = False
        self._tls_diagnosis: TlsDiagnosis | None = None
        if members is None:
            self._locate(name)
        self._connections: list[Connection] = []
        """All connections that have not ended. The last one is the newest; the earlier ones complete their calls."""
        self._attempt: _Attempt | None = None
        self._calls = 0
        self._draining = False

    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        deadline = anyio.current_time() + timeout
        message = rpc.encode(request)
        self._calls += 1
        try:
            try:
                answer = await self._answer(rpc.path, metadata, message, deadline)
            finally:
                self._calls -= 1
                self._close_if_done()
        except RpcError as failed:
            error = self._error(failed.status)
            if failed.status.code == "UNAVAILABLE":
                error = self._policy.error = await self._explain(error, deadline)
            raise error from failed
        self._tls_diagnosis = None
        try:
            return rpc.decode(answer)
        except Exception as unreadable:  # from protobuf, or from the limit on fields
            raise EtcdUnavailableError(f"{self.name}: a response cannot be read: {unreadable}") from unreadable

    async def _answer(self, path: str, metadata: Metadata, message: bytes, deadline: float) -> bytes:
        again = False
        while True:
            connection = await self._connection(deadline)
            left = max(0.001, deadline - anyio.current_time())
            try:
                return await connection.unary_unary(path, message, metadata=metadata, timeout=left)
            except RpcError as error:
                if not error.status.unprocessed or again or self._draining:
                    raise
            # The request was not processed: the server is shutting down, or the connection had just broken.
            again = True

    def on_data(self) -> None:
        self.last_received_at = self.clock()
        if self._policy.failing:
            self._policy.received(anyio.current_time())

    def _error(self, status: Status) -> EtcdLeaderError:
        """Map a status of the connection to an error. No other code maps these statuses."""
        if status.graceful:
            return going_away(status.message, self.name)
        return error_from_status(status.code, status.message, self.name)

    async def _explain(self, error: EtcdLeaderError, deadline: float) -> EtcdLeaderError:
        """Return the TLS problem instead of ``error`` if there is one. Any failed connection may be caused by TLS."""
        if self._tls_diagnosis is not None:
            with anyio.CancelScope(deadline=deadline):  # the lowest anyio has no move_on_at
                if (reason := await self._tls_diagnosis.reason()) is not None:
                    error = TlsHandshakeError(reason)
        if isinstance(error, TlsHandshakeError):
            self.last_received_at = -math.inf  # earlier data is no reason to keep this endpoint
        return error

    async def open_stream(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, timeout: float
    ) -> RpcStream:
        connection = await self._connection(anyio.current_time() + timeout)
        try:
            return Http2Stream(rpc, metadata, use, self.name, self._error, connection)
        except RpcError as refused:
            raise self._error(refused.status) from refused

    # The connection

    async def _connection(self, deadline: float) -> Connection:
        """Return the open connection, or a new one.

        Raises:
            EtcdLeaderError: No connection could be made in time.
        """
        if (connection := self._open_one()) is not None:
            return connection
        # All callers share one attempt, and it is not cancelled if its first caller times out. Otherwise short timeouts
        # could keep it from ever completing. A caller whose attempt failed does not start another: during an outage there
        # may be thousands of callers.
        if (attempt := self._attempt) is None:
            attempt = self._attempt = _Attempt()
            spawn_system_task(functools.partial(self._try, attempt), "etcdleader connecting", self._attempt_is_over)
        await attempt.finished.wait_for(max(0.0, deadline - anyio.current_time()))
        if not attempt.finished.is_set():
            # During the pause before the next attempt, and during the attempt, the last failure is the best explanation.
            if (last := self._policy.error) is not None:
                raise type(last)(*last.args)
            raise EtcdUnavailableError(f"{self.name}: no connection in time")
        if attempt.error is not None:
            # Another caller may have received the error first and left this endpoint. The reason is still the same.
            raise type(attempt.error)(*attempt.error.args)
        if (connection := self._open_one() or attempt.connection) is not None:
            return connection
        raise EtcdUnavailableError(f"{self.name}: the attempt to connect was cancelled")

    def _attempt_is_over(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.finished.set()

    async def _try(self, attempt: _Attempt) -> None:
        policy = self._policy
        try:
            with attempt.scope:
                if delay := policy.delay(anyio.current_time()):
                    await anyio.sleep(delay)
                policy.attempt(anyio.current_time())
                deadline = attempt.scope.deadline = anyio.current_time() + _CONNECT_TIMEOUT_SECONDS
                self._connections = [one for one in self._connections if not one.ended.is_set()]
                attempt.connection = await self._connect(deadline)
                self._connections.append(attempt.connection)
            if attempt.connection is None:
                why = (
                    "the connection was closed"
                    if self._draining
                    else f"no connection within {_CONNECT_TIMEOUT_SECONDS:g} s"
                )
                attempt.error = EtcdUnavailableError(f"{self.name}: {why}")
        except EtcdLeaderError as error:
            attempt.error = error
        except Exception as error:  # noqa: BLE001 - no caller awaits this task; those that wait for a connection get it
            attempt.error = EtcdUnavailableError(f"{self.name}: no connection: {error!r}")
        policy.error = attempt.error

    def _open_one(self) -> Connection | None:
        if self._draining:
            raise EtcdUnavailableError(f"{self.name}: the connection was closed")
        return self._connections[-1] if self._connections and self._connections[-1].is_open else None

    def _locate(self, name: str) -> None:
        """Record the address of the member for the next connection."""
        self.name = name
        self._tls = needs_tls(name, tls=self._config.tls)
        self._tls_diagnosis = None
        if unix_path(name) is None:
            address = name.removeprefix("https://")
            self._tls_diagnosis = TlsDiagnosis(address, self._config, self._contexts, tls=self._tls)

    async def _connect(self, deadline: float) -> Connection:
        if self._members is not None:
            self._locate(await self._members.next())
        connection = Connection(
            self.name.removeprefix("https://"),
            user_agent=_USER_AGENT,
            ping_interval=self._policy.ping_interval,
            reserved_streams=_RESERVED_STREAMS,
            on_received=self.on_data,
            on_too_many_pings=self._policy.too_many_pings,
            max_recv_bytes=self._config.max_recv_bytes,
        )
        try:
            await connection.connect(self._contexts.get if self._tls else None)
        except OSError as error:
            unavailable = self._error(Status("UNAVAILABLE", str(error)))
            raise await self._explain(unavailable, deadline) from error
        if self._draining:
            connection.close()
            raise EtcdUnavailableError(f"{self.name}: the connection was closed")
        return connection

    # Its end

    def drain(self) -> None:
        self._leave()
        self._close_if_done()

    def _leave(self) -> None:
        self._draining = True
        if self._attempt is not None:
            self._attempt.scope.cancel()

    def _close_if_done(self) -> None:
        if self._draining and not self._calls:
            self.close()

    def close(self) -> None:
        self._leave()
        for connection in self._connections:
            connection.close()

    async def wait_closed(self) -> None:
        if (attempt := self._attempt) is not None:
            await attempt.finished.wait()
        for connection in self._connections:
            await connection.wait_closed()


def open_endpoint(
    endpoint: str,
    config: EtcdConfig,
    policy: ConnectPolicy,
    contexts: ClientContexts,
    members: SrvMembers | None = None,
) -> Http2Endpoint:
    """Return an endpoint without connecting to it. ``members`` are those of a domain with SRV records.

    Raises:
        EtcdRefusedError: A certificate cannot be used.
    """
    if needs_tls(endpoint, tls=config.tls):
        contexts.check()
    return Http2Endpoint(endpoint, config, policy, contexts, members)
