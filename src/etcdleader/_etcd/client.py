"""The port, in etcd3's messages: one connection to one etcd cluster."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import anyio

from .._grpc import Metadata
from .._runtime.fork import process_id
from .._runtime.tasks import call_soon_from_threads
from ..config import EtcdConfig
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .api import (
    Compare,
    Header,
    KeepAlive,
    LeaseGranted,
    LeaseTimeToLive,
    MemberStatus,
    Operation,
    Range,
    RangeResult,
    TxnResult,
    WatchHandle,
    WatchSink,
)
from .auth import BorrowedToken, Login
from .codec import header, range_request, range_result, txn_request, txn_result
from .endpoint import Endpoint, open_endpoint
from .error_mapping import AnotherClusterError, StaleTokenError
from .etcd3_messages import etcdrpc
from .lease_stream import KeepAlives, OpenStream
from .rpcs import (
    KEEP_ALIVES,
    LEASE_GRANT,
    LEASE_REVOKE,
    LEASE_TIME_TO_LIVE,
    RANGE,
    STATUS,
    TXN,
    WATCHES,
    Method,
)
from .stream import Stream, StreamUse
from .versions import survives_given_up_reads
from .watch_stream import Watches

__all__ = ("EtcdGateway",)

_CLOSING = 1.0
"""Seconds that the streams' threads get to end."""
_LOGINS = 3
"""How often one call logs in again: whoever administers users makes several changes at once, and each of them outdates
the tokens of before."""
_CONNECTING = 0.75
"""Part of the time for a stream that connecting may take. Then who waits is told, and the endpoint may be left."""
_REST = 1.0
"""Seconds for which an endpoint is kept when none has answered since the last switch: in an outage the many that fail
must not open a connection each."""
_TALKING = 0.1
"""Seconds after its last word for which the only endpoint counts as alive. What it has not answered in time is late, not
lost: over a new connection it would have all watches to make anew, and be later still."""


class EtcdGateway:
    """Implements ``EtcdApi``. It is made on the event loop that it is used on, and opens nothing before the first call.

    One endpoint is spoken to at a time, over one connection, without a thread. On a user's own client there are gRPC's, and one
    for each of the two streams.
    """

    def __init__(self, client: EtcdConfig | Any) -> None:
        """Make one.

        Args:
            client: Where etcd is; or an ``etcd3.Etcd3Client``, whose channel and token are used and left as they are.
        """
        self._call_soon = call_soon_from_threads()
        self._config = client if isinstance(client, EtcdConfig) else None
        self._number = 0
        self._survives: int | None = None
        self._opened_at = -math.inf
        self._in_vain = 0
        self._cluster_id: int | None = None
        self._endpoint: Endpoint | None = None
        self._closed = False
        self._process = process_id()
        if isinstance(client, EtcdConfig):
            self._login: Login = Login(client.user, client.password, several=len(client.endpoints) > 1)
        else:
            from .grpcio_endpoint import ChannelEndpoint  # it brings gRPC along, which nobody else needs

            self._endpoint = ChannelEndpoint(client.channel, self._call_soon)
            self._login = BorrowedToken(client)
        self._keep_alives = KeepAlives(self._stream_opener(KEEP_ALIVES))
        self._watches = Watches(self._stream_opener(WATCHES), self._log_out, self._outdated)

    # The port

    async def lease_grant(self, ttl: int, lease_id: int, *, timeout: float) -> LeaseGranted:
        request = etcdrpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        answer = await self._call(LEASE_GRANT, request, timeout)
        return LeaseGranted(answer.ID, answer.TTL, header(answer.header))

    async def lease_revoke(self, lease_id: int, *, timeout: float) -> Header:
        request = etcdrpc.LeaseRevokeRequest(ID=lease_id)
        answer = await self._call(LEASE_REVOKE, request, timeout)
        return header(answer.header)

    async def lease_keep_alive(self, lease_ids: Sequence[int], *, timeout: float) -> Mapping[int, KeepAlive]:
        return await self._keep_alives.send(lease_ids, timeout)

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False, timeout: float) -> LeaseTimeToLive:
        request = etcdrpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        answer = await self._call(LEASE_TIME_TO_LIVE, request, timeout)
        return LeaseTimeToLive(answer.ID, answer.TTL, answer.grantedTTL, tuple(answer.keys), header(answer.header))

    async def member_status(self, *, timeout: float) -> MemberStatus:
        request = etcdrpc.StatusRequest()
        number = self._number
        answer = await self._call(STATUS, request, timeout)
        if number == self._number and survives_given_up_reads(answer.version):
            self._survives = number
        return MemberStatus(answer.version, answer.leader, header(answer.header))

    async def range(self, request: Range, *, timeout: float) -> RangeResult:
        answer = await self._call(RANGE, range_request(request), timeout)
        return range_result(answer, header(answer.header))

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout: float,
    ) -> TxnResult:
        reads = all(isinstance(one, Range) for one in (*success, *failure))
        if reads and len(success) == 1 and not compare:
            of_one = await self.range(cast("Range", success[0]), timeout=timeout)
            return TxnResult(succeeded=True, results=(of_one,), header=of_one.header)

        def request() -> Any:
            # Given up at the wrong moment, by a timeout or by our end, it would end a member of an older etcd.
            return txn_request(compare, success, failure, by_consensus=reads and self._survives != self._number)

        return txn_result(await self._call(TXN, request, timeout))

    def watch(
        self, key: bytes, range_end: bytes = b"", *, start_revision: int = 0, sink: WatchSink, timeout: float
    ) -> WatchHandle:
        return self._watches.add(key, range_end, start_revision, sink, timeout)

    @property
    def endpoint(self) -> int:
        return self._number

    def switch_endpoint(self, used: int) -> None:
        if used != self._number or self._config is None or self._closed:
            return
        now = time.monotonic()  # the loop's own clock cannot be had in what a stream calls
        others = len(self._config.endpoints) - 1
        if self._in_vain >= others and now < self._opened_at + _REST:
            return
        if not others and self._endpoint is not None and now < self._endpoint.heard_at + _TALKING:
            return
        self._number += 1
        self._in_vain += 1
        left, self._endpoint = self._endpoint, None
        if left is not None:
            error = EtcdUnavailableError(f"{left.name} does not answer as it should: going on elsewhere")
            self._keep_alives.end(error)
            self._watches.break_(error)
            left.leave()

    async def aclose(self) -> None:
        self._closed = True
        error = EtcdUnavailableError("the connection was closed")
        streams = [stream for stream in (self._keep_alives.stream, self._watches.stream) if stream is not None]
        self._keep_alives.end(error)
        self._watches.close()
        if self._endpoint is not None:
            self._endpoint.close()
        with anyio.move_on_after(_CLOSING):
            for stream in streams:
                await stream.ended.wait()
            if self._endpoint is not None:
                await self._endpoint.closed()

    # Calls

    def _open(self) -> Endpoint:
        if self._closed:
            raise EtcdUnavailableError("the connection was closed")
        if self._process != process_id():
            raise EtcdUnavailableError("the connection is another process's: this one was forked while it was in use")
        if self._endpoint is None:
            assert self._config is not None
            self._opened_at = time.monotonic()
            endpoints = self._config.endpoints
            self._endpoint = open_endpoint(endpoints[self._number % len(endpoints)], self._config)
        return self._endpoint

    async def _call(self, method: Method, request: Any, timeout: float) -> Any:
        """``request`` is a message, or makes the one for the member that it goes to: that may be another one by then."""
        deadline = anyio.current_time() + timeout
        logins = 0
        while True:
            endpoint = self._open()
            left = max(0.001, deadline - anyio.current_time())
            metadata = await self._login.metadata(endpoint, left)
            if endpoint is not self._endpoint:
                continue  # it was left while we logged in
            left = max(0.001, deadline - anyio.current_time())
            try:
                message = request() if callable(request) else request
                answer = await endpoint.call(method, message, metadata, left)
            except StaleTokenError:
                if logins == _LOGINS or not self._login.forget(metadata):
                    raise
                logins += 1
            else:
                if (stranger := self._stranger(endpoint, answer)) is not None:
                    raise stranger
                return answer

    def _stranger(self, endpoint: Endpoint, answer: Any) -> EtcdLeaderError | None:
        """What is wrong with an answer that comes from another cluster than the first one did.

        Its tokens are no tokens of ours: two clusters behind one list of endpoints would mean two leaders.
        """
        cluster_id = answer.header.cluster_id
        if self._cluster_id is None:
            self._cluster_id = cluster_id
        if cluster_id != self._cluster_id:
            endpoint.heard_at = -math.inf  # what a stranger says is no reason to stay, where there is no other
            return AnotherClusterError(
                f"{endpoint.name} belongs to cluster {cluster_id:x}; this connection began with {self._cluster_id:x}"
            )
        if endpoint is self._endpoint:
            self._in_vain = 0
        return None

    def _stream_opener(self, method: Method) -> OpenStream:
        async def open_stream(
            on_message: Callable[[Any], None], on_end: Callable[[EtcdLeaderError], None], timeout: float
        ) -> Stream:
            while True:
                endpoint, number = self._open(), self._number
                metadata = await self._login.metadata(endpoint, timeout)
                if endpoint is not self._endpoint:
                    continue  # it was left meanwhile

                def ended(error: EtcdLeaderError, metadata: Metadata = metadata, number: int = number) -> None:
                    if isinstance(error, StaleTokenError):
                        self._login.forget(metadata)
                    on_end(error)
                    if error._elsewhere:  # noqa: SLF001 - of this package
                        self.switch_endpoint(number)

                check = functools.partial(self._stranger, endpoint)
                use = StreamUse(check, on_message, ended, self._call_soon)
                try:
                    return await endpoint.open_stream(method, metadata, use, _CONNECTING * timeout)
                except EtcdLeaderError as error:
                    if endpoint is not self._endpoint and not self._closed:
                        continue  # it was left meanwhile: what of it
                    if error._elsewhere:  # noqa: SLF001 - of this package
                        self.switch_endpoint(number)
                    raise

        return open_stream

    def _outdated(self) -> bool:
        """Whether somebody has logged in again, or off, since the watch stream was opened."""
        stream = self._watches.stream
        return stream is not None and not self._login.is_current(stream.metadata)

    def _log_out(self) -> None:
        """A stream's token was refused: the next call logs in again."""
        self._login.forget()
