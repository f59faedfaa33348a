"""A gRPC connection over HTTP/2: unary calls and streams, on the event loop, without a thread.

The requests of one event-loop iteration are sent in one write, and most of their responses arrive in one read.
``frames.py`` and ``framing.py`` encode and decode the bytes, without I/O.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from .._runtime.limiter import FairLimiter
from .._runtime.tasks import ProtectedTaskGroup, spawn_system_task
from . import limits
from .connect import Tls, connect
from .connection_state import TRANSITIONS, State
from .events import ConnectionTerminated, DataReceived, H2Event, HeadersReceived, ProtocolError
from .exchange import Call, Exchange, Stream
from .frames import H2Codec
from .framing import Metadata, RequestHeaders, RpcError, Status, encode_message, encode_timeout, status_of
from .hpack import encode_headers
from .transport import CONNECTION_LOST, Transport

_NO_ERROR, _ENHANCE_YOUR_CALM = 0, 11
_SUSPECT_AFTER_SECONDS = 0.1
"""If nothing was received for this many seconds after data was sent, the connection is suspect."""
_READS_NOTHING = f"the peer reads nothing: more than {limits.OUTPUT} bytes wait to be sent"


class Connection:
    """A single HTTP/2 connection. It cannot be reopened: once it has failed or been closed, create a new one.

    Attributes:
        ended: Set once its task has ended and its socket is closed.
    """

    def __init__(
        self,
        authority: str,
        *,
        user_agent: str,
        ping_interval: float,
        reserved_streams: int,
        on_received: Callable[[], None],
        on_too_many_pings: Callable[[], None] = lambda: None,
        max_recv_bytes: int = limits.MESSAGE,
    ) -> None:
        """Create a connection that is not open yet.

        Args:
            authority: The peer, as ``host:port`` or ``unix:/path``. An IPv6 address is in brackets.
            user_agent: The value of the ``user-agent`` header.
            ping_interval: Seconds between pings while a call or a stream is open. A peer that sends nothing for the
                same time after a ping is considered dead. Servers close a connection that pings too often.
            reserved_streams: The number of concurrent streams that are reserved for ``stream_stream``.
            on_received: Is called when a message, or a part of one, was received for an open call or stream.
            on_too_many_pings: Is called when the peer closes the connection because it receives too many pings.
            max_recv_bytes: The largest accepted message. All incomplete messages together may take 1.5 times as much.
        """
        self.ended = anyio.Event()
        self._authority, self._user_agent = authority, user_agent
        self._ping_interval = ping_interval
        self._on_received, self._on_too_many_pings = on_received, on_too_many_pings
        self._max_recv_bytes, self._buffered = max_recv_bytes, 0
        self._codec = H2Codec(limits.WINDOW)
        self._transport: Transport | None = None
        self._headers = RequestHeaders("http", authority, user_agent)
        self._exchanges: dict[int, Exchange] = {}
        self._reserved_streams = reserved_streams
        self._calls = FairLimiter(math.inf)
        self._scope = anyio.CancelScope()
        self._ping_unanswered = False
        self._last_received_at = -math.inf
        self._state, self._why = State.IDLE, Status("UNAVAILABLE", "there is no connection")
        self._last = math.inf

    async def connect(self, tls: Tls | None) -> None:
        """Connect, with TLS if ``tls`` is given, and start the connection's task.

        Raises:
            OSError: No address of the host accepts a connection, or TLS fails (``ssl.SSLError``).
        """
        if tls is not None:
            self._headers = RequestHeaders("https", self._authority, self._user_agent)
        transport = self._transport = await connect(self._authority, tls, self._data_to_send, self._data_received)
        self._enter(State.OPEN, Status("OK", ""))
        transport.schedule_flush()
        spawn_system_task(functools.partial(self._run, transport), "grpc connection", self.ended.set)

    @property
    def is_open(self) -> bool:
        """True while calls and streams can be started."""
        return self._state is State.OPEN

    # Calls

    async def unary_unary(self, path: str, request: bytes, *, metadata: Metadata = (), timeout: float) -> bytes:
        """Send a request and return the response. A cancelled call is reset, so that the peer may stop processing it.

        Raises:
            RpcError: The call failed, or no response arrived in time.
        """
        left = timeout
        if not self._calls.try_acquire():
            deadline = anyio.current_time() + timeout
            if not await self._calls.acquire(timeout):
                raise RpcError(Status("UNAVAILABLE", self._no_room("call")))
            left = max(0.001, deadline - anyio.current_time())
        call = Call()
        exchange = Exchange(call.messages.append, call.end, is_call=True, max_recv_bytes=self._max_recv_bytes)
        stream_id = 0
        try:
            stream_id = self._open(exchange, path, metadata, (b"grpc-timeout", encode_timeout(left).encode()))
            assert self._transport is not None
            self._send(stream_id, exchange, encode_message(request), last=True)
            if self._calls.borrowed_tokens == 1:
                self._transport.flush()
            else:
                self._transport.schedule_flush()
            await call.over.wait_for(left)
            if call.status is None:
                # The loop may have been blocked, and the response may be waiting in the socket.
                for _ in range(2):
                    await anyio.lowlevel.checkpoint()
            if call.status is None:
                self._cancel_stream(stream_id)
        finally:
            if stream_id in self._exchanges:
                # The call was cancelled. This is no sign that the connection is broken.
                self._remove(stream_id)
                self._reset_stream(stream_id)
            self._calls.release()
            self._close_if_drained()
        if call.status is None:
            raise RpcError(Status("DEADLINE_EXCEEDED", f"no response within {timeout:g} s"))
        return call.result()

    def _limit_calls(self) -> None:
        """Limit concurrent calls, so that some of the peer's streams remain for ``stream_stream``.

        A single call may use one of those. If the connection is not open, there is no limit: waiting calls then fail.
        """
        room = self._codec.max_concurrent_streams - sum(not exchange.is_call for exchange in self._exchanges.values())
        self._calls.total_tokens = max(room - self._reserved_streams, min(room, 1)) if self.is_open else math.inf

    def _no_room(self, what: str) -> str:
        return (
            f"no {what} could begin in time: the peer allows {self._codec.max_concurrent_streams} streams at a time "
            f"(SETTINGS_MAX_CONCURRENT_STREAMS), and {len(self._exchanges)} are open"
        )

    # Streams

    def stream_stream(
        self,
        path: str,
        *,
        metadata: Metadata = (),
        on_message: Callable[[bytes], None],
        on_close: Callable[[Status], None],
    ) -> Stream:
        """Open a stream and return it.

        Args:
            path: The path of the method.
            metadata: The headers that open the stream.
            on_message: Is called with each message, on the event loop.
            on_close: Is called once with the final status, unless our side cancelled the stream. It may be called
                before this method returns.

        Raises:
            RpcError: The peer allows no more streams, or the connection is closed.
        """
        if self.is_open and len(self._exchanges) >= self._codec.max_concurrent_streams:
            raise RpcError(Status("UNAVAILABLE", self._no_room("stream"), unprocessed=True))
        exchange = Exchange(on_message, on_close, is_call=False, max_recv_bytes=self._max_recv_bytes)
        stream_id = self._open(exchange, path, metadata)
        self._limit_calls()
        self._schedule_flush()
        return Stream(
            functools.partial(self._send_messages, stream_id), functools.partial(self._cancel_stream, stream_id)
        )

    def _open(self, exchange: Exchange, path: str, metadata: Metadata, *more: tuple[bytes, bytes]) -> int:
        if self.is_open and len(self._codec.output) > limits.OUTPUT:
            self._fail(Status("UNAVAILABLE", _READS_NOTHING))
        if not self.is_open:
            raise RpcError(self._why._replace(unprocessed=True, graceful=False))
        stream_id = self._codec.open_stream(self._headers.encode(path, metadata) + encode_headers(more))
        self._exchanges[stream_id] = exchange
        if self._codec.exhausted:
            self._start_draining(math.inf, Status("UNAVAILABLE", "the connection has no stream ids left"))
        return stream_id

    def _send_messages(self, stream_id: int, *messages: bytes) -> None:
        if (exchange := self._exchanges.get(stream_id)) is not None:
            if self._codec.unsent_bytes(stream_id) > limits.OUTPUT:
                self._end_stream(stream_id, exchange, Status("UNAVAILABLE", _READS_NOTHING))
                return
            self._send(stream_id, exchange, b"".join(map(encode_message, messages)))
            self._schedule_flush()

    def _send(self, stream_id: int, exchange: Exchange, data: bytes, *, last: bool = False) -> None:
        exchange.sent_at = time.monotonic()
        self._codec.send_data(stream_id, data, last=last)

    def _remove(self, stream_id: int) -> Exchange | None:
        if (exchange := self._exchanges.pop(stream_id, None)) is not None:
            self._buffered -= exchange.buffered
            if not exchange.is_call:
                self._limit_calls()
        return exchange

    def _cancel_stream(self, stream_id: int) -> None:
        if (exchange := self._remove(stream_id)) is not None:
            if self._last_received_at < exchange.sent_at < time.monotonic() - _SUSPECT_AFTER_SECONDS:
                self._fail(Status("UNAVAILABLE", "nothing more was received"))
            else:
                self._reset_stream(stream_id)

    def _reset_stream(self, stream_id: int) -> None:
        self._codec.reset_stream(stream_id)
        self._schedule_flush()

    # Its end

    def _enter(self, state: State, why: Status) -> bool:
        """Enter a state if it may follow the present one, and return whether it may."""
        if state not in TRANSITIONS[self._state]:
            return False
        self._state, self._why = state, why
        self._limit_calls()
        return True

    def close(self) -> None:
        """Close the connection. Open calls and streams end as CANCELLED."""
        self._fail(Status("CANCELLED", "the connection was closed"))
        if self._transport is None:
            self.ended.set()

    async def wait_closed(self) -> None:
        """Wait until the connection's task has ended and its socket is closed. It must have failed or been closed."""
        await self.ended.wait()

    def _start_draining(self, last: float, why: Status) -> None:
        """Start draining: accept no new calls or streams, and let unary calls up to stream ``last`` complete.

        Streams end now, so that their owners reopen them elsewhere. The peer would never end them.
        """
        if (self._state is State.DRAINING and last >= self._last) or not self._enter(State.DRAINING, why):
            return
        self._last = last
        for stream_id, exchange in list(self._exchanges.items()):
            if stream_id > last:
                self._end_stream(stream_id, exchange, why._replace(unprocessed=not exchange.headers))
            elif not exchange.is_call:
                self._end_stream(stream_id, exchange, why)
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._state is State.DRAINING and not self._exchanges:
            self._fail(self._why)

    def _end_stream(self, stream_id: int, exchange: Exchange, how: Status) -> None:
        if self._remove(stream_id) is not None:  # otherwise the end of another stream has closed the connection
            self._reset_stream(stream_id)  # our half may still be open
            exchange.on_close(how)

    def _fail(self, how: Status) -> None:
        if self._enter(State.CLOSED, how):
            self._scope.cancel()
            exchanges, self._exchanges = list(self._exchanges.values()), {}
            for exchange in exchanges:
                exchange.on_close(how)

    # The task

    async def _run(self, transport: Transport) -> None:
        try:
            with self._scope:
                async with ProtectedTaskGroup() as group:
                    for task in (*transport.tasks, self._ping):
                        group.start_soon(self._guarded, task)
        finally:
            self._fail(Status("CANCELLED", "its task was cancelled"))
            await transport.aclose()

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except CONNECTION_LOST as error:
            self._fail(Status("UNAVAILABLE", str(error) or type(error).__name__))
        except Exception as error:  # noqa: BLE001 - no caller awaits this task: the error goes to the calls and streams
            self._fail(Status("INTERNAL", repr(error)))

    async def _ping(self) -> None:
        while True:
            await anyio.sleep(self._ping_interval)
            for _ in range(2 * self._ping_unanswered):
                await anyio.lowlevel.checkpoint()  # the loop may have been blocked while the PING ACK waits to be read
            if self._ping_unanswered:
                what = f"nothing was received for {self._ping_interval:g} s after a ping"
                self._fail(Status("UNAVAILABLE", what))
            if self._exchanges:
                self._ping_unanswered = True
                self._codec.ping()
                self._schedule_flush()

    # Sending and receiving

    def _schedule_flush(self) -> None:
        if self._transport is not None:
            self._transport.schedule_flush()

    def _data_to_send(self) -> bytes:
        return b"" if self._state is State.CLOSED else self._codec.data_to_send()

    def _data_received(self, data: bytes) -> bool:
        """Process received bytes. Return True if it must be called again soon, with no data."""
        if self._state is State.CLOSED:
            return False
        self._last_received_at = time.monotonic()
        self._ping_unanswered = False
        frames, room = self._codec, self._codec.max_concurrent_streams
        try:
            for event in frames.receive_data(data):
                self._on_event(event)
            if room != frames.max_concurrent_streams:
                self._limit_calls()
            if frames.has_output and self._transport is not None:
                self._transport.schedule_flush_later()
        except ProtocolError as error:
            self._fail(Status("UNAVAILABLE", str(error)))
        except Exception as error:  # noqa: BLE001 - the loop is no caller: the error goes to calls and streams
            self._fail(Status("INTERNAL", repr(error)))
        return frames.has_more

    def _on_event(self, event: H2Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self._on_connection_terminated(event)
            return
        stream_id = event.stream_id
        if (exchange := self._exchanges.get(stream_id)) is None:
            return
        if isinstance(event, DataReceived):
            if event.data:
                self._on_received()
                self._on_data(stream_id, exchange, event.data)
        elif isinstance(event, HeadersReceived):
            if event.stream_ended:
                exchange.trailers = event.headers
            elif (wrong := exchange.receive_headers(event.headers)) is not None:
                self._end_stream(stream_id, exchange, wrong)
        else:
            unprocessed = event.unprocessed and not exchange.headers  # a response that began was processed
            self._end_stream(
                stream_id,
                exchange,
                Status("UNAVAILABLE", f"reset by the peer: code {event.error_code}", unprocessed),
            )
            return
        if event.stream_ended and self._exchanges.get(stream_id) is exchange:
            how = status_of(exchange.headers, exchange.trailers)
            if exchange.is_call:
                # A peer may refuse a request before all of it was sent. Then the rest is not sent.
                self._codec.finish_stream(stream_id)
                self._remove(stream_id)
                exchange.on_close(how)
            else:
                self._end_stream(stream_id, exchange, how)

    def _on_connection_terminated(self, event: ConnectionTerminated) -> None:
        if event.error_code == _ENHANCE_YOUR_CALM and event.debug_data == "too_many_pings":
            self._on_too_many_pings()
        why = f"the peer is going away: {event.debug_data or f'code {event.error_code}'}"
        status = Status("UNAVAILABLE", why, graceful=event.error_code == _NO_ERROR)
        self._start_draining(event.last_stream_id, status)

    def _on_data(self, stream_id: int, exchange: Exchange, data: bytes) -> None:
        decoder = exchange.decoder
        for message in decoder.feed(data):
            exchange.messages += 1
            if exchange.is_call and exchange.messages > 1:
                self._end_stream(stream_id, exchange, Status("INTERNAL", "several responses to one request"))
                return
            exchange.on_message(message)
            if self._exchanges.get(stream_id) is not exchange:
                return  # on_message has cancelled it
        if decoder.error is not None:
            self._end_stream(stream_id, exchange, decoder.error)
        elif (buffered := decoder.buffered) or exchange.buffered:
            self._buffered, exchange.buffered = self._buffered + buffered - exchange.buffered, buffered
            if self._buffered > 1.5 * self._max_recv_bytes:
                what = "incomplete messages exceed 1.5 max_recv_bytes"
                self._end_stream(stream_id, exchange, Status("RESOURCE_EXHAUSTED", what))
