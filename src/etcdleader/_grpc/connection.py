"""One connection to one member: gRPC's calls and streams over HTTP/2, on the event loop, without a thread.

gRPC's Python layer hands each answer from thread to thread, 300 microseconds of a processor for a call and 200 for a message
of a stream, and looks for the next one many times a second. Here a hundred that leave together are one write, and most
answers to them one read: a third of that, and nothing while nothing happens. What the bytes mean is decided in
``frames.py`` and ``framing.py``, neither of which knows a socket.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from .._runtime.tasks import LightEvent, protected, spawn
from .connect import connect
from .frames import Arrived, Ended, Frames, GoneAway, Happening, Headers, ProtocolError
from .framing import Metadata, RequestHeaders, Status, Unframed, framed, status, timeout_header
from .hpack import packed
from .stream_limiter import Places
from .transport import HUNG_UP, Wire

__all__ = ("Http2",)

_WINDOW = 2**24
"""Bytes that may be under way to us. A watch may have to catch up with much."""
_PING_EVERY = 10.0
"""Seconds. Also how long a peer may be silent after one, so that one that vanished is noticed some time; nothing that matters
waits for it. Below 5 s etcd hangs up."""
_SUSPICIOUS = 0.1
"""Seconds of silence after something was sent."""


@dataclass(slots=True)
class _Stream:
    on_message: Callable[[bytes], None]
    on_end: Callable[[Status], None]
    is_call: bool
    sent_at: float = -math.inf
    unframed: Unframed = field(default_factory=Unframed)
    headers: dict[str, str] = field(default_factory=dict)


class _Call:
    """What a call has brought."""

    __slots__ = ("messages", "over", "status")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.status: Status | None = None
        self.over = LightEvent()

    def end(self, how: Status) -> None:
        self.status = how
        self.over.set()

    def result(self) -> tuple[Status, bytes]:
        assert self.status is not None
        if self.status.code != "OK":
            return self.status, b""
        if len(self.messages) != 1:
            return Status("INTERNAL", f"{len(self.messages)} answers to one request"), b""
        return self.status, self.messages[0]


class Http2:
    """It is connected once. When it broke it stays so: another one is made.

    Attributes:
        ended: Set when nothing of it runs any more.
    """

    def __init__(self, name: str, heard: Callable[[], None]) -> None:
        """Nothing is opened yet.

        Args:
            name: Whom it leads to: a host, a colon and a port.
            heard: Called when a message came, or a part of one.
        """
        self.ended = anyio.Event()
        self._name = name
        self._heard = heard
        self._frames = Frames(_WINDOW)
        self._wire: Wire | None = None
        self._headers = RequestHeaders("http", name)
        self._streams: dict[int, _Stream] = {}
        self._places = Places(self._has_room, lambda: not self.is_open)
        self._scope = anyio.CancelScope()
        self._silent = False
        self._heard_at = -math.inf
        self._broken: Status | None = None
        self._retired: Status | None = None

    async def connect(self, context: ssl.SSLContext | None) -> None:
        """Connect, and say who we are.

        Raises:
            OSError: There is nobody, or TLS fails (``ssl.SSLError``).
        """
        if context is not None:
            self._headers = RequestHeaders("https", self._name)
        self._wire = await connect(self._name, context, self._take, self._received)
        self._wire.wake()
        _connected.add(self)
        spawn(self._run, "etcdleader connection", self.ended.set)

    @property
    def is_open(self) -> bool:
        """Whether a call can be made on it, and a stream be opened."""
        return self._wire is not None and self._broken is None and self._retired is None

    # Calls

    async def call(self, path: str, metadata: Metadata, message: bytes, timeout: float) -> tuple[Status, bytes]:
        """Send one request and wait for its answer; cancelled, the request is withdrawn.

        Returns:
            How it ended; and the answer, as it is serialized, when that is OK.
        """
        left = timeout
        if self.is_open and not self._places.any_free():
            deadline = anyio.current_time() + timeout
            if not await self._places.wait(timeout):
                return Status("DEADLINE_EXCEEDED", "the member allows no more calls at a time"), b""
            left = max(0.001, deadline - anyio.current_time())
        if not self.is_open:
            return self._why_not()._replace(untouched=True), b""
        assert self._wire is not None
        call = _Call()
        stream = _Stream(call.messages.append, call.end, is_call=True)
        number = self._open(stream, path, metadata, (b"grpc-timeout", timeout_header(left).encode()))
        self._places.taken += 1
        try:
            self._send(number, stream, framed(message), last=True)
            if self._places.taken == 1:
                self._wire.send_now()
            else:
                self._wire.wake()
            await call.over.wait_for(left)
            if call.status is None:
                # The loop may have been blocked, with the answer waiting to be read.
                for _ in range(2):
                    await anyio.lowlevel.checkpoint()
            if call.status is None:
                self.leave(number)
        finally:
            self._places.taken -= 1
            if self._streams.pop(number, None) is not None:
                # Whoever asked wants no answer any more, which says nothing of the connection.
                self._reset(number)
            self._places.let_in()
            self._hang_up_if_done()
        if call.status is None:
            return Status("DEADLINE_EXCEEDED", f"no answer within {timeout:g} s"), b""
        return call.result()

    def _has_room(self, reserved: int) -> bool:
        return len(self._streams) + reserved < self._frames.room

    def _why_not(self) -> Status:
        return self._broken or self._retired or Status("UNAVAILABLE", "there is no connection")

    # Streams

    def open(
        self,
        path: str,
        metadata: Metadata,
        on_message: Callable[[bytes], None],
        on_end: Callable[[Status], None],
    ) -> int | None:
        """Open a stream; returns its number, or None: the member allows no more of them, or the connection is over.

        Args:
            path: The method's.
            metadata: What goes with it.
            on_message: Takes each message, as it is serialized.
            on_end: Told once how it ended, unless it was left from here.
        """
        if not self.is_open or not self._has_room(0):
            return None
        number = self._open(_Stream(on_message, on_end, is_call=False), path, metadata)
        self._wake()
        return number

    def _open(self, stream: _Stream, path: str, metadata: Metadata, *more: tuple[bytes, bytes]) -> int:
        number = self._frames.open(self._headers.packed(path, metadata) + packed(more))
        self._streams[number] = stream
        if self._frames.exhausted:
            self._retire(math.inf, Status("UNAVAILABLE", "the connection has no number left for a stream"))
        return number

    def send(self, number: int, *messages: bytes) -> None:
        """Send messages after those before them. What is sent in one go leaves in one go."""
        if (stream := self._streams.get(number)) is not None:
            self._send(number, stream, b"".join(map(framed, messages)))
            self._wake()

    def _send(self, number: int, stream: _Stream, data: bytes, *, last: bool = False) -> None:
        stream.sent_at = time.monotonic()
        self._frames.send(number, data, last=last)

    def leave(self, number: int) -> None:
        """No more of it. Nothing is told. Where nothing at all has come since it sent something, the connection is at fault, and
        ends: the next stream would fare no better."""
        if (stream := self._streams.pop(number, None)) is not None and self._broken is None:
            self._places.let_in()
            if self._heard_at < stream.sent_at < time.monotonic() - _SUSPICIOUS:
                self._break(Status("UNAVAILABLE", "nothing came any more"))
            else:
                self._reset(number)

    def close(self) -> None:
        """Hang up. Calls and streams that are open are told."""
        self._break(Status("CANCELLED", "the connection was closed"))
        if self._wire is None:
            self.ended.set()

    def _reset(self, number: int) -> None:
        self._frames.reset(number)
        self._wake()

    # Its end

    def _retire(self, last: float, why: Status) -> None:
        """Nothing more can be asked for. Calls up to ``last`` are waited for, while streams must find another home: nothing
        ends them but us."""
        self._retired = why
        for number, stream in list(self._streams.items()):
            if number > last:
                self._end(number, stream, why._replace(untouched=not stream.headers))
            elif not stream.is_call:
                self._end(number, stream, why)
        self._places.let_in()
        self._hang_up_if_done()

    def _hang_up_if_done(self) -> None:
        if self._retired is not None and not self._streams:
            self._break(self._retired)

    def _end(self, number: int, stream: _Stream, how: Status) -> None:
        self._streams.pop(number, None)
        self._reset(number)  # our half may still be open
        self._places.let_in()
        stream.on_end(how)

    def _break(self, how: Status) -> None:
        if self._broken is None:
            self._broken = how
            self._scope.cancel()
            self._places.let_in()
            streams, self._streams = list(self._streams.values()), {}
            for stream in streams:
                stream.on_end(how)

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
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to whoever uses the connection
            self._break(Status("INTERNAL", repr(error)))

    async def _ping(self) -> None:
        while True:
            await anyio.sleep(_PING_EVERY)
            for _ in range(2 * self._silent):
                await anyio.lowlevel.checkpoint()  # the loop may have been blocked, with an answer waiting to be read
            if self._silent:
                self._break(
                    Status("UNAVAILABLE", f"nothing was heard for {_PING_EVERY:g} s, no answer to a ping either")
                )
            self._silent = bool(self._streams)
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
        except Exception as error:  # noqa: BLE001 - nobody waits for this: it is told to whoever uses the connection
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
            self._retire(happening.last, Status("UNAVAILABLE", f"the member hangs up: {why}"))
            return
        number = happening.number
        if isinstance(happening, Arrived):
            self._heard()
        if (stream := self._streams.get(number)) is None:
            return
        if isinstance(happening, Ended):
            what = f"the stream was reset: code {happening.code}"
            untouched = happening.untouched and not stream.headers  # of which an answer began to come was touched
            self._end(number, stream, Status("UNAVAILABLE", what, untouched))
            return
        if isinstance(happening, Headers):
            stream.headers.update(happening.headers)
        else:
            self._arrived(number, stream, happening.data)
        if happening.ended and self._streams.get(number) is stream:
            if stream.is_call:
                # Asked and answered. Where it was refused before all of it was sent, the rest is not.
                self._frames.finish(number)
                del self._streams[number]
                self._places.let_in()
                stream.on_end(status(stream.headers))
            else:
                self._end(number, stream, status(stream.headers))

    def _arrived(self, number: int, stream: _Stream, data: bytes) -> None:
        """Hand on the messages that are whole now."""
        for message in stream.unframed.take(data):
            stream.on_message(message)
            if self._streams.get(number) is not stream:
                return  # left by what it was told
        if stream.unframed.compressed:
            self._end(number, stream, Status("INTERNAL", "a compressed message, which was not asked for"))


_connected: weakref.WeakSet[Http2] = weakref.WeakSet()


def _forked() -> None:
    """What a child does to the connections that it inherited: it lets go of them, unseen by the other side.

    Whatever it runs of its parent's loop, as it does when it leaves by ``sys.exit`` inside of it, can then neither speak to
    etcd in the parent's name, nor read what was meant for the parent, nor take the parent's sockets out of the loop's
    selector, which the two share. (On trio it still takes events from there: that is between trio and who forks so.)
    """
    nobody, other = socket.socketpair()
    other.close()
    for connection in list(_connected):
        with suppress(Exception):
            os.dup2(nobody.fileno(), connection._wire.descriptor)  # type: ignore[union-attr] # noqa: SLF001 - of this module
    nobody.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
