"""An endpoint over the grpcio channel of a user's own client. It neither configures nor closes the channel."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Any

import anyio
import grpc

from .._grpc import Metadata
from .._runtime.events import Event
from .._runtime.tasks import CallSoon
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .endpoint import Endpoint
from .error_mapping import error_from_status
from .rpcs import A, Q, Rpc
from .stream import HAS_LEADER, RpcStream, StreamCallbacks

_MAX_WAITING_MESSAGES = 1000
"""Maximum number of messages that wait for the event loop."""
_MESSAGES_PER_ITERATION = 100
"""Maximum number of messages processed in one iteration of the event loop."""


class GrpcioEndpoint(Endpoint):
    """An endpoint that makes calls by grpcio futures, without a thread for each. Each of the two streams has a thread."""

    def __init__(self, channel: Any, call_soon: CallSoon) -> None:
        self.name = "the given client"
        self._channel = channel
        self._call_soon = call_soon
        self._callables: dict[str, Any] = {}
        self._under_way: set[Any] = set()
        self._over: deque[Event] = deque()
        self._notified = False

    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        try:
            future = self._callable(rpc).future(request, timeout=timeout, metadata=metadata)
        except ValueError as closed:  # grpcio's error for a closed channel
            raise EtcdUnavailableError(f"{self.name}: the channel was closed") from closed
        over = Event()

        def ended(_: object) -> None:
            if future.code() is grpc.StatusCode.OK:
                self.on_data()
            self._over.append(over)
            if not self._notified:
                # One wake-up of the event loop serves all calls that end before the loop runs. A wake-up costs more than
                # the rest of this function.
                self._notified = True
                self._call_soon(self._notify)

        future.add_done_callback(ended)
        self._under_way.add(future)
        try:
            await over.wait()
        finally:
            self._under_way.discard(future)
            future.cancel()  # no-op if it is done
        if future.code() is grpc.StatusCode.OK:
            answer: A = future.result()
            return answer
        raise error_from_status(future.code().name, future.details(), self.name)

    def _callable(self, rpc: Rpc[Any, Any]) -> Any:
        if (found := self._callables.get(rpc.path)) is None:
            found = self._callables[rpc.path] = self._channel.unary_unary(
                rpc.path, request_serializer=rpc.encode, response_deserializer=rpc.decode
            )
        return found

    def _notify(self) -> None:
        self._notified = False  # first, so that a call that ends from now on wakes the loop again
        while self._over:
            self._over.popleft().set()

    async def open_stream(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, timeout: float
    ) -> RpcStream:
        del timeout  # the channel connects automatically
        return GrpcioStream(rpc, metadata, use, self, self._channel)

    def drain(self) -> None:
        """Do nothing, because there is no other endpoint to switch to."""

    def close(self) -> None:
        """End the calls in progress. The channel belongs to the user and stays open."""
        for future in list(self._under_way):
            future.cancel()

    async def wait_closed(self) -> None:
        """Return immediately: each stream reports its own end."""


class GrpcioStream(RpcStream):
    """A stream on a grpcio channel, read by its own thread."""

    def __init__(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, endpoint: Endpoint, channel: Any
    ) -> None:
        """Open the stream.

        Raises:
            EtcdUnavailableError: The channel was closed.
        """
        super().__init__(metadata, use)
        self.closed = anyio.Event()
        self._endpoint = endpoint.name
        self._heard = endpoint.on_data
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._inbox: deque[Any] = deque()
        self._room = threading.Semaphore(_MAX_WAITING_MESSAGES)
        self._called = False
        try:
            call = channel.stream_stream(rpc.path, request_serializer=rpc.encode, response_deserializer=rpc.decode)
            self._call: Any = call(iter(self._requests.get, None), metadata=(*metadata, HAS_LEADER))
        except ValueError as error:  # grpcio's error for a closed channel
            raise EtcdUnavailableError(f"{endpoint.name}: the channel was closed") from error
        threading.Thread(target=self._read, name=f"etcdleader {rpc.name}", daemon=True).start()

    def send(self, *requests: Any) -> None:
        """Send messages, in order."""
        for request in requests:
            self._requests.put(request)

    def _hang_up(self) -> None:
        self._requests.put(None)
        self._room.release()  # the thread may be waiting for it
        if (call := self._call) is not None:
            call.cancel()

    def _read(self) -> None:
        error: EtcdLeaderError = EtcdUnavailableError("etcd ended the stream")
        call_soon = self._use.call_soon
        try:
            for message in self._call:
                self._heard()
                self._room.acquire()  # until the event loop has taken some; meanwhile, the flow-control window closes
                if not self._open:
                    self._room.release()
                    continue
                self._inbox.append(message)
                if not self._called:
                    # One wake-up of the event loop serves all messages that arrive before the loop runs. A wake-up costs
                    # more than a message.
                    self._called = True
                    call_soon(self._deliver)
        except grpc.RpcError as failed:
            error = error_from_status(failed.code().name, failed.details(), self._endpoint)
            failed.__traceback__ = None  # the exception is the call itself, so its traceback is a reference cycle
        finally:
            self._requests.put(None)
            # Release the call now. At interpreter shutdown, its finalizer would wait for a lock that one of grpcio's daemon
            # threads may hold. Those threads no longer run at that point, so the process would never end.
            self._call = None
            call_soon(self._finish, error)

    def _deliver(self) -> None:
        self._called = False  # first, so that a message that arrives from now on wakes the loop again
        for _ in range(min(len(self._inbox), _MESSAGES_PER_ITERATION)):
            message = self._inbox.popleft()
            self._room.release()
            if not self._open:
                return
            self._take(message)
        if self._inbox and not self._called:
            self._called = True
            self._use.call_soon(self._deliver)

    def _finish(self, error: EtcdLeaderError) -> None:
        if self._inbox and self._open:
            self._use.call_soon(self._finish, error)  # after the messages that arrived before the end
            return
        self.end(error)
        self.closed.set()
