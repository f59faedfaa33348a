"""A client of one etcd cluster: implements the port over a network."""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio

from .._grpc import Metadata
from .._runtime.fork import process_id
from .._runtime.tasks import loop_scheduler
from .._values.addresses import most_tries
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .api import (
    EMPTY_TXN,
    Compares,
    Header,
    KeepAliveResponses,
    LeaseGranted,
    LeaseTimeToLive,
    MemberStatus,
    Operations,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    WatchHandle,
    WatchSink,
)
from .auth import MAX_LOGINS, Authenticator, ClientToken
from .connect_policy import ConnectPolicy
from .endpoint import Endpoint, open_endpoint
from .endpoint_selector import EndpointSelector
from .error_mapping import ClusterIdMismatchError, GoingAwayError, InvalidAuthTokenError
from .lease_stream import KeepAliveStream, OpenStream
from .messages import (
    LeaseGrantRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    RaftTermRequest,
    StatusRequest,
)
from .rpcs import (
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    LEASE_TIME_TO_LIVE,
    RAFT_TERM,
    RANGE,
    STATUS,
    TXN,
    WATCH,
    A,
    Q,
    Rpc,
)
from .srv import srv_members
from .stream import RpcStream, StreamCallbacks
from .tls import ClientContexts
from .version_monitor import VersionMonitor
from .watch_stream import WatchStream

_CLOSE_TIMEOUT_SECONDS = 1.0
"""Seconds that ``aclose`` waits for connections, and the threads of streams, to end."""
_CONNECT_SHARE = 0.75
"""The part of a stream's timeout that connecting may take. The rest lets the failure reach the caller in time, so that
the client can switch endpoints."""


def new_client(client: EtcdConfig | Any) -> EtcdClient:
    """Return a client for an ``EtcdConfig``, or one over an ``etcd3.Etcd3Client``.

    The client uses the channel and the token of an ``Etcd3Client``, and does not close it. It opens no connection
    before the first call.
    """
    # The module's own generator, because Python seeds it again in a forked child. A child must not repeat its parent's
    # pauses.
    uniform = random.uniform
    if isinstance(client, EtcdConfig):
        endpoints = client.endpoints
        contexts = ClientContexts(client)
        policies = [ConnectPolicy(uniform) for _ in endpoints]

        selector = EndpointSelector(len(endpoints))
        domains = srv_members(client, uniform, selector.found)

        def dial_member(number: int) -> Endpoint:
            place = number % len(endpoints)
            endpoint = endpoints[place]
            return open_endpoint(endpoint, client, policies[place], contexts, domains.get(endpoint))

        return EtcdClient(
            dial_member,
            selector,
            Authenticator(
                client.user, client.password, password_file=client.password_file, several=most_tries(endpoints) > 1
            ),
            uniform,
        )

    def dial(number: int) -> Endpoint:
        from .grpcio_endpoint import GrpcioEndpoint  # it imports grpcio, which no other module needs

        del number
        return GrpcioEndpoint(client.channel, loop_scheduler())

    return EtcdClient(dial, None, ClientToken(client), uniform)


class EtcdClient:
    """An ``EtcdApi`` over endpoints, for one event loop. It opens no connection before the first call.

    It uses one endpoint at a time, over one connection, without threads. Over a user's own client there are grpcio's
    threads, and one thread for each of the two streams.
    """

    def __init__(
        self,
        dial: Callable[[int], Endpoint],
        selector: EndpointSelector | None,
        authenticator: Authenticator,
        uniform: Callable[[float, float], float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open no connection yet.

        Args:
            dial: Returns the endpoint with a given number, without sending anything. The selector increments the number.
            selector: Decides when to leave an endpoint. None: there is one endpoint, which the client never leaves.
            authenticator: Provides the token for the calls.
            uniform: The source of random numbers, for the users of the connection.
            clock: The selector's monotonic clock. The event loop's clock is not available in the callbacks of a stream.
        """
        self._dial = dial
        self._selector = selector
        self._authenticator = authenticator
        self.uniform = uniform
        authenticator.on_header = self._logged_in
        self._clock = clock
        self._cluster_id: int | None = None
        self._endpoint: Endpoint | None = None
        self._closed = False
        self._on_header: Callable[[Header], None] = _ignore
        self._process = process_id()
        self._versions = VersionMonitor(self._ask_version, lambda: self.endpoint_number)
        self._keep_alives = KeepAliveStream(self._stream_opener(LEASE_KEEP_ALIVE))
        self._watches = WatchStream(self._stream_opener(WATCH), self._log_out, self._outdated)

    # The port

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        return await self._call(LEASE_GRANT, LeaseGrantRequest(ttl, lease_id), timeout)

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        return (await self._call(LEASE_REVOKE, LeaseRevokeRequest(lease_id), timeout)).header

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> KeepAliveResponses:
        answers = await self._keep_alives.send(lease_ids, timeout)
        errors = {id(error): error for error in answers.errors.values()}
        if not answers and len(errors) == 1:
            raise errors.popitem()[1]
        return answers

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False, timeout: float) -> LeaseTimeToLive:
        return await self._call(LEASE_TIME_TO_LIVE, LeaseTimeToLiveRequest(lease_id, keys), timeout)

    async def member_status(self, *, timeout: float) -> MemberStatus:
        endpoint = self.endpoint_number
        status = await self._call(STATUS, StatusRequest(), timeout)
        self._versions.learned(endpoint, status.version)
        return status

    async def member_raft_term(self, key: bytes, *, timeout: float) -> int:
        return (await self._call(RAFT_TERM, RaftTermRequest(key), timeout)).header.raft_term

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        return await self._call(RANGE, request, timeout)

    async def txn(
        self, compare: Compares, success: Operations, failure: Operations = (), *, timeout: float
    ) -> TxnResult:
        reads = all(isinstance(one, Range) for one in (*success, *failure))
        if reads and len(success) == 1 and not compare:
            of_one = await self.range(cast("Range", success[0]), timeout=timeout)
            return TxnResult(succeeded=True, results=(of_one,), header=of_one.header)

        def request() -> Txn:
            # An older etcd exits if a read-only transaction is cancelled while it reads. A raft proposal cannot be cancelled.
            through_log = reads and not self._versions.cancelled_reads_are_safe()
            return Txn(compare, success, (*failure, EMPTY_TXN) if through_log else failure)

        return await self._call(TXN, request, timeout)

    def watch(
        self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0, sink: WatchSink, timeout: float
    ) -> WatchHandle:
        if self._closed:
            raise EtcdUnavailableError("the connection was closed")
        return self._watches.add(key, range_end, start_revision, sink, timeout)

    @property
    def endpoint_number(self) -> int:
        return 0 if self._selector is None else self._selector.number

    def report_endpoint_failure(self, used: int) -> None:
        self._switch(used, None)

    def _switch(self, used: int, going_away: GoingAwayError | None) -> None:
        if self._selector is None or self._closed:
            return
        left = self._endpoint
        last_received_at = -math.inf if left is None else left.last_received_at
        if not self._selector.switch(used, self._clock(), last_received_at):
            return
        self._endpoint = None
        if left is not None:
            failure = EtcdUnavailableError(f"{left.name} failed: connecting to the next endpoint")
            error = going_away or failure
            self._keep_alives.end(error)
            self._watches.break_(error)
            left.drain()

    def on_version(self, listener: Callable[[str], None]) -> None:
        self._versions.subscribe(listener)

    def on_header(self, listener: Callable[[Header], None]) -> None:
        self._on_header = listener

    async def aclose(self) -> None:
        self._closed = True
        error = EtcdUnavailableError("the connection was closed")
        streams = [stream for stream in (self._keep_alives.stream, self._watches.stream) if stream is not None]
        self._keep_alives.end(error)
        self._watches.close()
        self._versions.close()
        if self._endpoint is not None:
            self._endpoint.close()
        with anyio.move_on_after(_CLOSE_TIMEOUT_SECONDS):
            for stream in streams:
                await stream.closed.wait()
            if self._endpoint is not None:
                await self._endpoint.wait_closed()
            await self._versions.wait_closed()

    # Calls

    def _open(self) -> Endpoint:
        if self._closed:
            raise EtcdUnavailableError("the connection was closed")
        if self._process != process_id():
            raise EtcdUnavailableError(
                "the connection belongs to another process: this process was forked while it was in use"
            )
        if self._endpoint is None:
            if self._selector is not None:
                self._selector.opened(self._clock())
            self._endpoint = self._dial(self.endpoint_number)
        return self._endpoint

    async def _ask_version(self, timeout: float) -> str:
        return (await self.member_status(timeout=timeout)).version

    async def _call(self, rpc: Rpc[Q, A], request: Q | Callable[[], Q], timeout: float) -> A:
        """Send a request to the endpoint in use and return the response. Log in again if the token is stale.

        Args:
            rpc: The RPC.
            request: The message, or a function that returns the message for the member in use at the time of sending.
            timeout: Seconds for the whole call, logins included.
        """
        deadline = anyio.current_time() + timeout
        logins = 0
        while True:
            endpoint = self._open()
            left = max(0.001, deadline - anyio.current_time())
            metadata = await self._authenticator.metadata(endpoint, left)
            if endpoint is not self._endpoint:
                continue  # the client left it during the login
            left = max(0.001, deadline - anyio.current_time())
            try:
                message = request() if callable(request) else request
                answer = await endpoint.call(rpc, message, metadata, left)
            except InvalidAuthTokenError:
                if logins == MAX_LOGINS or not self._authenticator.invalidate(metadata):
                    raise
                logins += 1
            else:
                if (stranger := self._check_cluster_id(endpoint, answer)) is not None:
                    raise stranger
                if self._selector is not None:
                    self._selector.answered_call()
                self._versions.answered()
                return answer

    def _check_cluster_id(self, endpoint: Endpoint, answer: Any) -> EtcdLeaderError | None:
        """Process the header of a response. Return an error if it comes from a different cluster than earlier responses.

        Fencing tokens of different clusters are not comparable. Two clusters behind one list of endpoints would elect
        two leaders.
        """
        cluster_id = answer.header.cluster_id
        if not self._is_ours(cluster_id):
            endpoint.last_received_at = -math.inf  # data from another cluster is no reason to keep the endpoint
            return ClusterIdMismatchError(
                f"{endpoint.name} belongs to cluster {cluster_id:x}, but earlier responses came from cluster "
                f"{self._cluster_id:x}: check the endpoints"
            )
        if endpoint is self._endpoint and self._selector is not None:
            self._selector.answered()
        self._on_header(answer.header)
        return None

    def _is_ours(self, cluster_id: int) -> bool:
        if self._cluster_id is None:
            self._cluster_id = cluster_id
        return cluster_id == self._cluster_id

    def _logged_in(self, header: Header) -> None:
        if self._is_ours(header.cluster_id):
            self._on_header(header)

    def _stream_opener(self, rpc: Rpc[Any, Any]) -> OpenStream:
        async def open_stream(
            on_message: Callable[[Any], None], on_end: Callable[[EtcdLeaderError], None], timeout: float
        ) -> RpcStream:
            while True:
                endpoint, number = self._open(), self.endpoint_number
                metadata = await self._authenticator.metadata(endpoint, timeout)
                if endpoint is not self._endpoint:
                    continue  # the client has left it in the meantime
                ends: list[EtcdLeaderError] = []

                def ended(
                    error: EtcdLeaderError,
                    metadata: Metadata = metadata,
                    number: int = number,
                    ends: list[EtcdLeaderError] = ends,
                ) -> None:
                    ends.append(error)
                    if isinstance(error, InvalidAuthTokenError):
                        self._authenticator.invalidate(metadata)
                    unused = rpc is LEASE_KEEP_ALIVE and not self._keep_alives.waits
                    on_end(error)
                    if not unused:
                        self._failed(number, error)

                check = functools.partial(self._check_cluster_id, endpoint)
                use = StreamCallbacks(check, on_message, ended, loop_scheduler())
                try:
                    stream = await endpoint.open_stream(rpc, metadata, use, _CONNECT_SHARE * timeout)
                except EtcdLeaderError as error:
                    if endpoint is not self._endpoint and not self._closed:
                        continue  # the client has left it in the meantime, so its error does not matter
                    self._failed(number, error)
                    raise
                if ends:
                    # The stream ended before it was open. It reports its end only once, so its user would wait forever.
                    raise ends[0]
                return stream

        return open_stream

    def _failed(self, number: int, error: EtcdLeaderError) -> None:
        """Leave the endpoint of a failed stream if another endpoint may work."""
        if isinstance(error, GoingAwayError):
            self._switch(number, error)
        elif error.retry_other_endpoint:
            self.report_endpoint_failure(number)

    def _outdated(self) -> bool:
        """Return whether the token has changed or was discarded since the watch stream was opened."""
        stream = self._watches.stream
        return stream is not None and not self._authenticator.is_current(stream.metadata)

    def _log_out(self) -> None:
        """Discard the token because etcd refused it on a stream. The next call logs in again."""
        self._authenticator.invalidate()


def _ignore(header: Header) -> None:
    """Ignore a header. This is the listener until ``on_header`` sets another."""
