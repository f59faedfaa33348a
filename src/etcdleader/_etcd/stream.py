"""One bidirectional stream of gRPC's: written in order; each message it brings is handed on, on the event loop.

There are two kinds. One is on HTTP/2 of its own (``http2.py``). The other one is on a channel of gRPC's, which is all there is
where a user has given a client: a thread of its own reads it.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import grpc

from .._loop import CallSoon
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .endpoint import Endpoint, Metadata
from .rpc import etcdrpc
from .translation import translated

if TYPE_CHECKING:
    from .http2 import Http2, Status

__all__ = ("KEEP_ALIVES", "WATCHES", "ChannelStream", "Http2Stream", "Method", "Stream")


@dataclass(frozen=True)
class Method:
    """A method whose requests and answers are streams.

    Attributes:
        name: For people.
        path: Its address, in HTTP.
        answer: Makes a message of what was serialized.
        call: The method of an endpoint's stub.
    """

    name: str
    path: str
    answer: Callable[[bytes], Any]
    call: Callable[[Endpoint], Any]


KEEP_ALIVES = Method(
    "keep-alives",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    etcdrpc.LeaseKeepAliveResponse.FromString,
    lambda endpoint: endpoint.lease.LeaseKeepAlive,
)
WATCHES = Method(
    "watches",
    "/etcdserverpb.Watch/Watch",
    etcdrpc.WatchResponse.FromString,
    lambda endpoint: endpoint.watch.Watch,
)
_HAS_LEADER = ("hasleader", "true")
"""Without it, a member that lost its leader would keep the stream open, and silent."""


class Stream(ABC):
    """It lives until it breaks or is closed; nothing is delivered after that.

    Attributes:
        metadata: What it was opened with.
        ended: Set when nothing of it runs any more.
    """

    ended: anyio.Event

    def __init__(
        self,
        metadata: Metadata,
        *,
        check: Callable[[Any], EtcdLeaderError | None],
        on_message: Callable[[Any], None],
        on_end: Callable[[EtcdLeaderError], None],
        call_soon: CallSoon,
    ) -> None:
        """Make one.

        Args:
            metadata: What goes with it.
            check: Says what is wrong with a message, if anything: then the stream ends with that.
            on_message: Takes each message.
            on_end: Told once, why it ended.
            call_soon: The way to the loop, from wherever.
        """
        self.metadata = metadata
        self._check = check
        self._on_message = on_message
        self._on_end = on_end
        self._call_soon = call_soon
        self._open = True

    @abstractmethod
    def send(self, request: Any) -> None:
        """Send a message after those before it."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Nothing more is wanted of it."""

    def end(self, error: EtcdLeaderError) -> None:
        """End it; ``on_end`` is told why, once."""
        if self._open:
            self._open = False
            self._hang_up()
            self._on_end(error)

    def _take(self, message: Any) -> None:
        try:
            if (wrong := self._check(message)) is not None:
                self.end(wrong)
            else:
                self._on_message(message)
        except Exception as error:  # noqa: BLE001 - raised below, where it holds up none of the messages after it
            self._call_soon(_raise, error)


class Http2Stream(Stream):
    """On a connection without gRPC."""

    def __init__(self, method: Method, metadata: Metadata, endpoint: str, connection: Http2, **rest: Any) -> None:
        """Open it, on a connection that is open. What remains is as for ``Stream``.

        Raises:
            EtcdUnavailableError: The member allows no more streams.
        """
        from h2.exceptions import H2Error  # loaded by now: the connection is made with it

        super().__init__(metadata, **rest)
        self.ended = connection.ended
        self._endpoint = endpoint
        self._connection = connection
        self._answer = method.answer
        try:
            self._number = connection.open(method.path, (*metadata, _HAS_LEADER), self._received, self._closed)
        except H2Error as error:
            raise EtcdUnavailableError(f"{endpoint}: no stream: {error}") from error

    def send(self, request: Any) -> None:
        """Send a message after those before it."""
        self._connection.send(self._number, request.SerializeToString())

    def _hang_up(self) -> None:
        self._connection.close_stream(self._number)

    def _received(self, serialized: bytes) -> None:
        try:
            message = self._answer(serialized)
        except Exception as error:  # noqa: BLE001 - of protobuf: what comes from there is not what it should be
            self.end(EtcdUnavailableError(f"{self._endpoint}: a message that cannot be read: {error}"))
        else:
            self._take(message)

    def _closed(self, status: Status) -> None:
        if status.code == "OK":
            self.end(EtcdUnavailableError("etcd ended the stream"))
        else:
            self.end(translated(status.code, status.details, self._endpoint))


class ChannelStream(Stream):
    """On a channel of gRPC's."""

    def __init__(self, method: Method, metadata: Metadata, endpoint: Endpoint, **rest: Any) -> None:
        """Open it. What remains is as for ``Stream``.

        Raises:
            EtcdUnavailableError: The channel was closed.
        """
        super().__init__(metadata, **rest)
        self.ended = anyio.Event()
        self._endpoint = endpoint.name
        self._heard = endpoint.heard
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._inbox: deque[Any] = deque()
        self._called = False
        try:
            self._call: Any = method.call(endpoint)(iter(self._requests.get, None), metadata=(*metadata, _HAS_LEADER))
        except ValueError as error:  # as gRPC says that the channel was closed
            raise EtcdUnavailableError(f"{endpoint.name}: the channel was closed") from error
        threading.Thread(target=self._read, name=f"etcdleader {method.name}", daemon=True).start()

    def send(self, request: Any) -> None:
        """Send a message after those before it."""
        self._requests.put(request)

    def _hang_up(self) -> None:
        self._requests.put(None)
        if (call := self._call) is not None:
            call.cancel()

    def _read(self) -> None:
        error: EtcdLeaderError = EtcdUnavailableError("etcd ended the stream")
        _wait_to_be_woken(self._call)
        try:
            for message in self._call:
                self._heard()
                self._inbox.append(message)
                if not self._called:
                    # One way to the loop for all that has come until it looks: waking it costs more than a message.
                    self._called = True
                    self._call_soon(self._deliver)
        except grpc.RpcError as failed:
            error = translated(failed.code().name, failed.details(), self._endpoint)
            failed.__traceback__ = None  # it is the call itself, and holds itself by that
        finally:
            self._requests.put(None)
            # Let go of it here and now. Left to the end of the interpreter, its finalizer waits for a lock that one of
            # gRPC's daemon threads may hold, and those do not run any more then: the process would never end.
            self._call = None
            self._call_soon(self.end, error)
            self._call_soon(self.ended.set)

    def _deliver(self) -> None:
        self._called = False  # first, so that what comes from now on calls again
        while self._inbox:
            message = self._inbox.popleft()
            if not self._open:
                return
            self._take(message)


def _wait_to_be_woken(call: Any) -> None:
    """Let this thread sleep until there is something for it.

    gRPC is told of each message and of the end, and still looks for them ten times a second: most of what a program at rest
    would spend. What is reached for here is private. Where it is not there, one day, this thread looks ten times a second.
    """
    condition = getattr(getattr(call, "_state", None), "condition", None)
    if isinstance(condition, threading.Condition):
        reader, wait = threading.get_ident(), condition.wait
        condition.wait = (  # type: ignore[method-assign]
            lambda timeout=None: wait(None if threading.get_ident() == reader else timeout)
        )


def _raise(error: Exception) -> None:
    """In a callback of the loop's own, which tells it as it tells all."""
    raise error
