"""etcd's service at one member: authentication, the faults of single requests, streams, and the member itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import anyio

from etcdleader import EtcdLeaderError, EtcdRefusedError
from etcdleader._etcd import messages
from etcdleader._etcd.api import KeepAlive, LeaseExistsError, LeaseNotFoundError
from etcdleader.testing._faults import use_up
from etcdleader.testing.fake_etcd import FakeEtcd, FakeMember
from tests.simulator.http2_server import Http2Server
from tests.simulator.messages import decode_request, encode_response
from tests.simulator.network import TcpConnection

__all__ = ("KINDS", "Auth", "RequestFault", "ServerEnd", "kind_of")

KINDS = {
    "Range": "range", "Txn": "txn", "LeaseGrant": "grant", "LeaseRevoke": "revoke", "LeaseKeepAlive": "keep-alive",
    "LeaseTimeToLive": "time-to-live", "Status": "status", "Authenticate": "login", "Watch": "watch",
}  # fmt: skip
"""etcd's methods, and the kinds of requests that faults name."""

_NO_SPACE = "mvcc: database space exceeded"


def kind_of(path: str) -> str:
    """Return the kind of a method's requests."""
    return KINDS[path.rpartition("/")[2]]


@dataclass
class RequestFault:
    """A fault of the next requests of one kind from one process.

    Attributes:
        kind: The kind; None for all.
        times: How many requests it still hits.
        lose: Lose the request, or the response to it.
        delay: Seconds by which the response is late.
        error: A gRPC status and its text, instead of the response.
        applied: Whether the request is done before the error is sent.
    """

    kind: str | None
    times: float
    lose: str | None = None
    delay: float = 0.0
    error: tuple[str, str] | None = None
    applied: bool = False


@dataclass
class Auth:
    """The users of the cluster, of which there is one.

    Attributes:
        enabled: Whether requests need a token.
        allowed: Whether the user may read and write.
    """

    enabled: bool = False
    allowed: bool = True
    _tokens: set[str] = field(default_factory=set)
    _issued: int = 0

    def login(self) -> str:
        """Return a new token."""
        self._issued += 1
        token = f"token-{self._issued}"
        self._tokens.add(token)
        return token

    def expire(self) -> None:
        """Invalidate all tokens."""
        self._tokens.clear()

    def refusal(self, token: str) -> tuple[str, str] | None:
        """Return the error of a request with this token, or None."""
        if not self.enabled:
            return None
        if token not in self._tokens:
            return "UNAUTHENTICATED", "etcdserver: invalid auth token"
        return None if self.allowed else ("PERMISSION_DENIED", "etcdserver: permission denied")


class ServerEnd:
    """One connection at one member."""

    def __init__(
        self,
        connection: TcpConnection,
        etcd: FakeEtcd,
        member: FakeMember,
        auth: Auth,
        faults: list[RequestFault],
        on_request: Callable[[str, Any], None],
        max_streams: int | None,
    ) -> None:
        self._connection = connection
        self._etcd = etcd
        self._cluster = etcd._cluster
        self._member = member
        self._auth = auth
        self._faults = faults
        self._on_request = on_request
        self._http = Http2Server(connection.send_down, self, max_streams)
        self._watches: dict[int, dict[int, Any]] = {}
        """The watches of each stream."""
        self._keep_alives: dict[int, deque[tuple[str, bytes]]] = {}
        """The requests of each stream that wait for the one before them."""
        self._last_at: dict[int, float] = {}
        self._kept: list[bytes] | None = None
        """The bytes that arrived while the member was frozen."""
        self.lost = False
        connection.server = self
        member.streams[self] = None  # type: ignore[index]

    # The connection

    def receive(self, data: bytes) -> None:
        """Receive bytes, once the member is not frozen."""
        if self._kept is not None:
            self._kept.append(data)
        elif self._member.frozen:
            self._kept = [data]
            self._cluster.spawn(self._catch_up)
        else:
            self._http.receive(data)

    async def _catch_up(self) -> None:
        await self._cluster.changed.until(lambda: not self._member.frozen)
        kept, self._kept = self._kept or [], None
        for data in kept:
            self._http.receive(data)

    def lose(self, reason: str) -> None:
        """The connection has ended."""
        self.lost = True
        self._member.streams.pop(self, None)  # type: ignore[call-overload]
        for stream in list(self._watches):
            self.cancelled(stream)
        self._keep_alives.clear()
        self._kept = None

    def end(self, error: EtcdLeaderError) -> None:
        """Break the connection: the member was killed or replaced."""
        self._connection.reset(str(error))

    def go_away(self) -> None:
        """Close the connection gracefully, as before a restart."""
        self._connection.send_down(self._http.go_away())

    def cancelled(self, stream: int) -> None:
        """End the watches of a stream."""
        self._keep_alives.pop(stream, None)
        self._last_at.pop(stream, None)
        for watch in self._watches.pop(stream, {}).values():
            self._member.watches.close(watch)

    # Requests

    def message(self, stream: int, path: str, token: str, message: bytes) -> None:
        """Receive one request."""
        kind = kind_of(path)
        if kind == "watch":
            self._on_watch(stream, token, decode_request(path, message))
        elif kind == "keep-alive":
            self._queue_keep_alive(stream, token, message)
        else:
            request = decode_request(path, message)
            self._on_request(kind, request)
            self._on_call(stream, kind, token, request)

    def _on_call(self, stream: int, kind: str, token: str, request: Any) -> None:
        fault = use_up(self._faults, kind)
        if fault is not None and fault.lose == "request":
            return
        if fault is not None and fault.error is not None and not fault.applied:
            self._fail(stream, *fault.error)
            return
        if isinstance(request, messages.AuthenticateRequest):
            response: Any = messages.AuthenticateResponse(self._member.header(), self._auth.login())
            self._respond(stream, request, response, fault)
        elif isinstance(request, messages.StatusRequest):
            self._respond(stream, request, self._member.status(), fault)
        elif (refusal := self._auth.refusal(token)) is not None:
            self._fail(stream, *refusal)
        elif self._answers_at_once:
            if (response := self._result(stream, self._member.handle(request))) is not None:
                self._respond(stream, request, response, fault)
        else:
            self._cluster.spawn(self._handle, stream, request, fault)

    @property
    def _answers_at_once(self) -> bool:
        return self._member.is_well and self._cluster.has_leader

    def _result(self, stream: int, handling: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine of the member that does not wait. Return its result, or None after it failed the stream."""
        try:
            handling.send(None)
        except StopIteration as done:
            return done.value
        except EtcdLeaderError as error:
            self._fail(stream, *_status_of(error))
            return None
        handling.close()
        raise AssertionError("the member had to wait")

    async def _handle(self, stream: int, request: Any, fault: RequestFault | None) -> None:
        try:
            response = await self._member.handle(request)
        except EtcdLeaderError as error:
            self._fail(stream, *_status_of(error))
        else:
            self._respond(stream, request, response, fault)

    def _respond(self, stream: int, request: Any, response: Any, fault: RequestFault | None) -> None:
        if fault is not None:
            if fault.error is not None:
                self._fail(stream, *fault.error)
            if fault.error is not None or fault.lose == "response":
                return
        if data := self._http.respond(stream, encode_response(request, response)):
            self._connection.send_down(data, 0.0 if fault is None else fault.delay)

    def _fail(self, stream: int, code: str, text: str) -> None:
        if data := self._http.fail(stream, code, text):
            self._connection.send_down(data)

    # Keep-alives: one stream is served strictly in order

    def _on_keep_alive(self, stream: int, token: str, message: bytes) -> None:
        request = decode_request("LeaseKeepAlive", message)
        self._on_request("keep-alive", request)
        fault = use_up(self._faults, "keep-alive")
        if fault is not None and fault.lose == "request":
            return
        error = self._auth.refusal(token) if fault is None or fault.error is None else fault.error
        if error is not None:
            self._fail(stream, *error)
            return
        lessor = self._cluster.lessor
        lease = request.lease_id
        expired = lease in lessor and lessor.remaining(lease, anyio.current_time()) <= 0
        if self._answers_at_once and self._cluster.unapplied_lessor is None and not expired:
            if (response := self._result(stream, self._member.keep_alive(lease))) is not None:
                self._kept_alive(stream, request, response, fault)
        else:
            self._keep_alives[stream] = deque()
            self._cluster.spawn(self._keep_alive, stream, request, fault)

    async def _keep_alive(self, stream: int, request: Any, fault: RequestFault | None) -> None:
        try:
            response = await self._member.keep_alive(request.lease_id)
        except EtcdLeaderError as error:
            self._keep_alives.pop(stream, None)
            self._fail(stream, *_status_of(error))
            return
        self._kept_alive(stream, request, response, fault)
        for token, message in self._keep_alives.pop(stream, ()):
            self._queue_keep_alive(stream, token, message)

    def _queue_keep_alive(self, stream: int, token: str, message: bytes) -> None:
        if (waiting := self._keep_alives.get(stream)) is not None:
            waiting.append((token, message))
        else:
            self._on_keep_alive(stream, token, message)

    def _kept_alive(self, stream: int, request: Any, response: KeepAlive, fault: RequestFault | None) -> None:
        if fault is None or fault.lose != "response":
            self._send(stream, encode_response(request, response), 0.0 if fault is None else fault.delay)

    def _send(self, stream: int, message: bytes, delay: float = 0.0) -> None:
        """Send a message on a stream after the earlier ones, even if those are delayed."""
        now = anyio.current_time()
        at = max(now + delay, self._last_at.get(stream, -math.inf))
        if data := self._http.send_message(stream, message):
            self._last_at[stream] = at
            self._connection.send_down(data, at - now)

    # Watches

    def _on_watch(self, stream: int, token: str, request: Any) -> None:
        member = self._member
        if isinstance(request, messages.WatchCancelRequest):
            watch = self._watches.get(stream, {}).pop(request.watch_id, None)
            if watch is not None:
                member.watches.close(watch)
                self._tell(stream, messages.WatchResponse(member.header(), request.watch_id, canceled=True))
            return
        fault = use_up(self._faults, "watch")
        if fault is not None and fault.lose is not None:
            return
        if fault is not None and fault.error is not None:
            self._fail(stream, *fault.error)
            return
        if isinstance(request, messages.WatchProgressRequest):
            self._report_progress(stream)
            return
        self._on_request("watch", request)
        if (refusal := self._auth.refusal(token)) is not None:
            reason = f"rpc error: code = {refusal[0]} desc = {refusal[1]}"
            refused = messages.WatchResponse(member.header(), 0, created=True, canceled=True, cancel_reason=reason)
            self._tell(stream, refused)
            return
        delay = 0.0 if fault is None else fault.delay
        watches = self._watches.setdefault(stream, {})
        watches[request.watch_id] = member.watches.open(request, lambda response: self._from_watch(stream, response))
        self._tell(stream, messages.WatchResponse(member.header(), request.watch_id, created=True), delay)
        self._cluster.changed.send()

    def _report_progress(self, stream: int) -> None:
        revision, watches = self._member.revision, self._watches.get(stream, {}).values()
        if watches and all(watch.synced and watch.request.start_revision <= revision for watch in watches):
            self._tell(stream, messages.WatchResponse(self._member.header(), messages.ALL_WATCHES))

    def _from_watch(self, stream: int, response: messages.WatchResponse) -> None:
        if response.canceled:
            self._watches.get(stream, {}).pop(response.watch_id, None)
        self._tell(stream, response)

    def _tell(self, stream: int, response: messages.WatchResponse, delay: float = 0.0) -> None:
        self._send(stream, encode_response(None, response), delay)


def _status_of(error: EtcdLeaderError) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, LeaseNotFoundError):
        return "NOT_FOUND", text
    if isinstance(error, LeaseExistsError):
        return "FAILED_PRECONDITION", text
    if isinstance(error, EtcdRefusedError):
        return "INVALID_ARGUMENT", text
    return ("RESOURCE_EXHAUSTED" if _NO_SPACE in text else "UNAVAILABLE"), text
