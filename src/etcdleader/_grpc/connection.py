"""A gRPC connection over HTTP/2: unary calls and streams, on the event loop, without a thread.

Requests of one iteration of the event loop leave in one write, and most of their responses arrive in one read. What the
bytes mean is decided in ``frames.py`` and ``framing.py``, which do no I/O.
"""

from __future__ import annotations

import functools
import math
import os
import socket
import ssl
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.lowlevel

from .._runtime.fork import AtFork, in_child
from .._runtime.tasks import protected, spawn
from .connect import connect
from .exchange import Call, Exchange, Stream
from .frames import Arrived, Ended, Frames, GoneAway, Happening, Headers, ProtocolError
from .framing import Metadata, RequestHeaders, RpcError, Status, framed, status, timeout_header
from .hpack import packed
from .stream_limiter import Places
from .transport import HUNG_UP, Wire

__all__ = ("Connection",)

_WINDOW = 2**24
"""Bytes that the peer may send before we acknowledge any. A stream may have to catch up with much."""
_SUSPICIOUS = 0.1
"""Seconds without any received data, after data was sent, that make a connection suspect."""


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
    ) -> None:
        """Create a connection that is not open yet.

        Args:
            authority: The peer, as ``host:port``. An IPv6 address is in brackets.
            user_agent: The value of the ``user-agent`` header.
            ping_interval: Seconds between pings while anything is open. A peer that is silent for as long after a ping
                is considered dead. Servers close a connection that pings too often.
            reserved_streams: How many of the streams that the peer allows at a time are left to ``stream_stream``.
            on_received: Is called when a message, or a part of one, was received.
        """
        self.ended = anyio.Event()
        self._authority = authority
        self._user_agent = user_agent
        self._ping_interval = ping_interval
        self._on_received = on_received
        self._frames = Frames(_WINDOW)
        self._wire: Wire | None = None
        self._headers = RequestHeaders("http", authority, user_agent)
        self._exchanges: dict[int, Exchange] = {}
        self._places = Places(self._has_room, lambda: not self.is_open, reserved_streams)
        self._scope = anyio.CancelScope()
        self._silent = False
        self._heard_at = -math.inf
        self._broken: Status | None = None
        self._retired: Status | None = None

    async def connect(self, ssl_context: ssl.SSLContext | None) -> None:
        """Connect, with TLS if a context is given, and start the connection's task.

        Raises:
            OSError: No address of the host accepts a connection, or TLS fails (``ssl.SSLError``).
        """
        if ssl_context is not None:
            self._headers = RequestHeaders("https", self._authority, self._user_agent)
        self._wire = await connect(self._authority, ssl_context, self._take, self._received)
        self._wire.wake()
        _connected.add(self)
        spawn(self._run, "grpc connection", self.ended.set)

    @property
    def is_open(self) -> bool:
        """Whether calls can be made and streams be opened."""
        return self._wire is not None and self._broken is None and self._retired is None

    # Calls

    async def unary_unary(self, path: str, request: bytes, *, metadata: Metadata = (), timeout: float) -> bytes:
        """Send a request and return the response. A cancelled call is reset, so the peer may stop working on it.

        Raises:
            RpcError: The call failed, or was not answered in time.
        """
        left = timeout
        if self.is_open and not self._places.any_free():
            deadline = anyio.current_time() + timeout
            if not await self._places.wait(timeout):
                raise RpcError(Status("DEADLINE_EXCEEDED", "the peer allows no more calls at a time"))
            left = max(0.001, deadline - anyio.current_time())
        if not self.is_open:
            raise RpcError(self._why_not())
        assert self._wire is not None
        call = Call()
        exchange = Exchange(call.messages.append, call.end, is_call=True)
        number = self._open(exchange, path, metadata, (b"grpc-timeout", timeout_header(left).encode()))
        self._places.taken += 1
        try:
            self._send(number, exchange, framed(request), last=True)
            if self._places.taken == 1:
                self._wire.send_now()
            else:
                self._wire.wake()
            await call.over.wait_for(left)
            if call.status is None:
                # The loop may have been blocked while the response waits to be read.
                for _ in range(2):
                    await anyio.lowlevel.checkpoint()
            if call.status is None:
                self._cancel(number)
        finally:
            self._places.taken -= 1
            if self._exchanges.pop(number, None) is not None:
                # The call was cancelled. That says nothing about the connection.
                self._reset(number)
            self._places.let_in()
            self._hang_up_if_done()
        if call.status is None:
            raise RpcError(Status("DEADLINE_EXCEEDED", f"no answer within {timeout:g} s"))
        return call.result()

    def _has_room(self, reserved: int) -> bool:
        return len(self._exchanges) + reserved < self._frames.room

    def _why_not(self) -> Status:
        status = self._broken or self._retired or Status("UNAVAILABLE", "there is no connection")
        return status._replace(unprocessed=True)

    # Streams

    def stream_stream(
        self,
        path: str,
        *,
        metadata: Metadata = (),
        on_message: Callable[[bytes], None],
        on_close: Callable[[Status], None],
    ) -> Stream:
        """Open a stream.

        Args:
            path: The path of the method.
            metadata: The headers that the stream is opened with.
            on_message: Is called with each message, on the event loop.
            on_close: Is called once with the final status, unless the stream was cancelled from here. It may be called
                before this method returns.

        Raises:
            RpcError: The peer allows no more streams, or the connection is closed.
        """
        if not self.is_open:
            raise RpcError(self._why_not())
        if not self._has_room(0):
            raise RpcError(Status("UNAVAILABLE", "the peer allows no more streams at a time", unprocessed=True))
        number = self._open(Exchange(on_message, on_close, is_call=False), path, metadata)
        self._wake()
        return Stream(functools.partial(self._send_messages, number), functools.partial(self._cancel, number))

    def _open(self, exchange: Exchange, path: str, metadata: Metadata, *more: tuple[bytes, bytes]) -> int:
        number = self._frames.open(self._headers.packed(path, metadata) + packed(more))
        self._exchanges[number] = exchange
        if self._frames.exhausted:
            self._retire(math.inf, Status("UNAVAILABLE", "the connection has no stream ids left"))
        return number

    def _send_messages(self, number: int, *messages: bytes) -> None:
        if (exchange := self._exchanges.get(number)) is not None:
            self._send(number, exchange, b"".join(map(framed, messages)))
            self._wake()

    def _send(self, number: int, exchange: Exchange, data: bytes, *, last: bool = False) -> None:
        exchange.sent_at = time.monotonic()
        self._frames.send(number, data, last=last)

    def _cancel(self, number: int) -> None:
        if (exchange := self._exchanges.pop(number, None)) is not None and self._broken is None:
            self._places.let_in()
            if self._heard_at < exchange.sent_at < time.monotonic() - _SUSPICIOUS:
                self._break(Status("UNAVAILABLE", "nothing came any more"))
            else:
                self._reset(number)

    def _reset(self, number: int) -> None:
        self._frames.reset(number)
        self._wake()

    # Its end

    def close(self) -> None:
        """Close the connection. Open calls and streams end as CANCELLED."""
        self._break(Status("CANCELLED", "the connection was closed"))
        if self._wire is None:
            self.ended.set()

    async def wait_closed(self) -> None:
        """Wait until a connection that was closed, or has failed, has ended."""
        await self.ended.wait()

    def _retire(self, last: float, why: Status) -> None:
        """Start draining: accept nothing new and let unary calls up to stream ``last`` complete.

        Streams end now, so that their owners reopen them elsewhere: no peer would end them.
        """
        self._retired = why
        for number, exchange in list(self._exchanges.items()):
            if number > last:
                self._end(number, exchange, why._replace(unprocessed=not exchange.headers))
            elif not exchange.is_call:
                self._end(number, exchange, why)
        self._places.let_in()
        self._hang_up_if_done()

    def _hang_up_if_done(self) -> None:
        if self._retired is not None and not self._exchanges:
            self._break(self._retired)

    def _end(self, number: int, exchange: Exchange, how: Status) -> None:
        self._exchanges.pop(number, None)
        self._reset(number)  # our half may still be open
        self._places.let_in()
        exchange.on_close(how)

    def _break(self, how: Status) -> None:
        if self._broken is None:
            self._broken = how
            self._scope.cancel()
            self._places.let_in()
            exchanges, self._exchanges = list(self._exchanges.values()), {}
            for exchange in exchanges:
                exchange.on_close(how)

    # The task

    async def _run(self) -> None:
        assert self._wire is not None
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for task in (*self._wire.tasks, self._ping):
                        group.start_soon(protected(self._guarded), task)
        finally:
            self._break(Status("CANCELLED", "its task was cancelled"))
            _connected.discard(self)
            await self._wire.aclose()

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except HUNG_UP as error:
            self._break(Status("UNAVAILABLE", str(error) or type(error).__name__))
        except Exception as error:  # noqa: BLE001 - no caller awaits this task: the error goes to the calls and streams
            self._break(Status("INTERNAL", repr(error)))

    async def _ping(self) -> None:
        while True:
            await anyio.sleep(self._ping_interval)
            for _ in range(2 * self._silent):
                await anyio.lowlevel.checkpoint()  # the loop may have been blocked while the answer waits to be read
            if self._silent:
                what = f"nothing was heard for {self._ping_interval:g} s, no answer to a ping either"
                self._break(Status("UNAVAILABLE", what))
            self._silent = bool(self._exchanges)
            if self._silent:
                self._frames.ping()
                self._wake()

    # What goes, and what comes

    def _wake(self) -> None:
        if self._wire is not None:
            self._wire.wake()

    def _take(self) -> bytes:
        if self._broken is not None:
            return b""
        data, self._frames.to_send = bytes(self._frames.to_send), bytearray()
        return data

    def _received(self, data: bytes) -> None:
        try:
            self._read(data)
        except ProtocolError as error:
            self._break(Status("UNAVAILABLE", str(error)))
        except Exception as error:  # noqa: BLE001 - the loop is no caller: the error goes to calls and streams
            self._break(Status("INTERNAL", repr(error)))

    def _read(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._silent = False
        room = self._frames.room
        for happening in self._frames.receive(data):
            self._happened(happening)
        if room != self._frames.room:
            self._places.let_in()
        if self._frames.to_send and self._wire is not None:
            self._wire.wake_later()

    def _happened(self, happening: Happening) -> None:
        if isinstance(happening, GoneAway):
            why = happening.why or f"code {happening.code}"
            self._retire(happening.last, Status("UNAVAILABLE", f"the peer is going away: {why}"))
            return
        number = happening.number
        if isinstance(happening, Arrived):
            self._on_received()
        if (exchange := self._exchanges.get(number)) is None:
            return
        if isinstance(happening, Ended):
            what = f"the stream was reset: code {happening.code}"
            unprocessed = happening.unprocessed and not exchange.headers  # a response that began was processed
            self._end(number, exchange, Status("UNAVAILABLE", what, unprocessed))
            return
        if isinstance(happening, Headers):
            exchange.headers.update(happening.headers)
        else:
            self._arrived(number, exchange, happening.data)
        if happening.ended and self._exchanges.get(number) is exchange:
            how = status(exchange.headers)
            if exchange.is_call:
                # A peer may refuse a request before all of it was sent. The rest is not sent then.
                self._frames.finish(number)
                del self._exchanges[number]
                self._places.let_in()
                exchange.on_close(how)
            else:
                self._end(number, exchange, how)

    def _arrived(self, number: int, exchange: Exchange, data: bytes) -> None:
        for message in exchange.unframed.take(data):
            exchange.on_message(message)
            if self._exchanges.get(number) is not exchange:
                return  # on_message has cancelled it
        if exchange.unframed.compressed:
            self._end(number, exchange, Status("INTERNAL", "a compressed message, which was not asked for"))


_connected: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forked() -> None:
    """What a child does to the connections that it inherited: it lets go of them, unseen by the other side.

    Whatever it runs of its parent's loop, as it does when it leaves by ``sys.exit`` inside of it, can then neither speak
    in the parent's name, nor read what was meant for the parent, nor take the parent's sockets out of the loop's
    selector, which the two share. (On trio it still takes events from there: that is between trio and who forks so.)
    """
    nobody, other = socket.socketpair()
    other.close()
    for connection in list(_connected):
        with suppress(Exception):
            os.dup2(nobody.fileno(), connection._wire.descriptor)  # type: ignore[union-attr] # noqa: SLF001 - of this module
    nobody.close()


in_child(AtFork.SOCKETS, _forked)
