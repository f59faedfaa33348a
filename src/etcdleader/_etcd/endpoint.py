"""One member of etcd, and the way to it: a connection for its calls and its two streams, made anew when it broke."""

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
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .connect_policy import ConnectPolicy
from .error_mapping import NoTlsError, error_from_status, going_away
from .rpcs import A, Q, Rpc
from .stream import Http2Stream, Stream, StreamUse
from .tls import ClientContexts
from .tls_diagnosis import TlsDiagnosis

_USER_AGENT = "etcdleader"
_RESERVED_STREAMS = 2
"""The keep-alive stream and the watch stream. etcd itself allows any number of streams; a proxy may allow few."""
_CONNECTING = 5.0
"""Seconds that an attempt to connect may take, whoever waits for it, TLS and all."""


class Endpoint(ABC):
    """What calls and streams go to.

    Attributes:
        name: Its address.
        clock: Returns seconds on a monotonic clock, in any thread.
        last_received_at: When something came from it, by that clock: an answer, or a message on a stream.
    """

    name: str
    clock: Callable[[], float] = staticmethod(time.monotonic)
    last_received_at: float = -math.inf

    def on_data(self) -> None:
        """Something came from it. Called as it comes, in gRPC's threads, too: the loop may be late to look."""
        self.last_received_at = self.clock()

    @abstractmethod
    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        """Send one request and wait for its answer; cancelled, the request is withdrawn.

        Raises:
            EtcdLeaderError: What the error of gRPC's means.
        """

    @abstractmethod
    async def open_stream(self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamUse, timeout: float) -> Stream:
        """Open a stream. ``timeout`` bounds the making of a connection, where there is none.

        Raises:
            EtcdLeaderError: There is no connection, or no room on it.
        """

    @abstractmethod
    def drain(self) -> None:
        """Close it when the calls under way are over: one that does not answer *this* caller may answer others."""

    @abstractmethod
    def close(self) -> None:
        """End its calls and streams."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until nothing of it runs any more, once it was closed."""


class _Attempt:
    """To connect."""

    __slots__ = ("connection", "error", "finished", "scope")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.finished = Event()
        self.error: EtcdLeaderError | None = None
        self.scope = anyio.CancelScope()


class Http2Endpoint(Endpoint):
    """A member that is spoken to without a client of gRPC's."""

    def __init__(self, name: str, config: EtcdConfig, policy: ConnectPolicy, contexts: ClientContexts) -> None:
        """Open nothing yet.

        Args:
            name: The member's address.
            config: Of the client.
            policy: What earlier connections to the member have shown.
            contexts: The client's.
        """
        self.name = name
        self._config = config
        self._policy = policy
        self._contexts = contexts
        self._tls_diagnosis: TlsDiagnosis | None = TlsDiagnosis(name.removeprefix("https://"), config, self._contexts)
        self._connections: list[Connection] = []
        """All that have not ended: the newest is the last, and those before it end their calls."""
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
        except Exception as unreadable:  # of protobuf's
            raise EtcdUnavailableError(f"{self.name}: an answer that cannot be read: {unreadable}") from unreadable

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
            # It did nothing of it, and says so: a server that is about to end, or a connection that had just broken.
            again = True

    def on_data(self) -> None:
        self.last_received_at = self.clock()
        if self._policy.failing:
            self._policy.received(anyio.current_time())

    def _error(self, status: Status) -> EtcdLeaderError:
        """Return the error that a status of the connection means. Statuses are mapped nowhere else."""
        if status.graceful:
            return going_away(status.message, self.name)
        return error_from_status(status.code, status.message, self.name)

    async def _explain(self, error: EtcdLeaderError, deadline: float) -> EtcdLeaderError:
        """A connection that fails may fail because of TLS, whatever it looks like."""
        if self._tls_diagnosis is not None:
            with anyio.CancelScope(deadline=deadline):  # the lowest anyio has no move_on_at
                if (reason := await self._tls_diagnosis.reason()) is not None:
                    error = NoTlsError(reason)
        if isinstance(error, NoTlsError):
            self.last_received_at = -math.inf  # whatever it said before, it is no reason to stay
        return error

    async def open_stream(self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamUse, timeout: float) -> Stream:
        connection = await self._connection(anyio.current_time() + timeout)
        try:
            return Http2Stream(rpc, metadata, use, self.name, self._error, connection)
        except RpcError as refused:
            raise self._error(refused.status) from refused

    # The connection

    async def _connection(self, deadline: float) -> Connection:
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
            spawn_system_task(functools.partial(self._try, attempt), "etcdleader connecting", self._attempt_is_over)
        await attempt.finished.wait_for(max(0.0, deadline - anyio.current_time()))
        if not attempt.finished.is_set():
            # In the pause before the next attempt, and while it is under way, the last failure is the best explanation.
            if (last := self._policy.error) is not None:
                raise type(last)(*last.args)
            raise EtcdUnavailableError(f"{self.name}: no connection in time")
        if attempt.error is not None:
            # Even if another caller, who was told first, has left this endpoint since: the reason is the same.
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
                deadline = attempt.scope.deadline = anyio.current_time() + _CONNECTING
                self._connections = [one for one in self._connections if not one.ended.is_set()]
                attempt.connection = await self._connect(deadline)
                self._connections.append(attempt.connection)
            if attempt.connection is None:
                why = "the connection was closed" if self._draining else f"no connection within {_CONNECTING:g} s"
                attempt.error = EtcdUnavailableError(f"{self.name}: {why}")
        except EtcdLeaderError as error:
            attempt.error = error
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to those who wait for a connection
            attempt.error = EtcdUnavailableError(f"{self.name}: no connection: {error!r}")
        policy.error = attempt.error

    def _open_one(self) -> Connection | None:
        if self._draining:
            raise EtcdUnavailableError(f"{self.name}: the connection was closed")
        return self._connections[-1] if self._connections and self._connections[-1].is_open else None

    async def _connect(self, deadline: float) -> Connection:
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
            await connection.connect(self._contexts.get if self._config.tls else None)
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


def open_endpoint(endpoint: str, config: EtcdConfig, policy: ConnectPolicy, contexts: ClientContexts) -> Http2Endpoint:
    """Return an endpoint to which nothing was sent yet.

    Raises:
        EtcdRefusedError: A certificate cannot be used.
    """
    if config.tls:
        contexts.check()
    return Http2Endpoint(endpoint, config, policy, contexts)
