"""HTTP/2 as gRPC speaks it, for the two streams: on the event loop, without a thread.

gRPC's Python layer hands each message of a stream from thread to thread, some 200 microseconds of CPU in all, and looks
for the next one many times a second. Here a hundred messages that leave together are one write, and most answers to
them one read: a tenth of that, and nothing while nothing happens. The protocol itself is the library h2's.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.lowlevel
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from anyio.abc import ByteStream, SocketAttribute

from .._loop import LightEvent, protected, spawn

__all__ = ("Http2", "Status")

_PREFIX = 5
"""Bytes before each message: whether it is compressed, and its length."""
_WINDOW = 2**24
"""Bytes that may be under way to us. A watch may have to catch up with much."""
_READ = 2**16
_PING_EVERY = 10.0
"""Seconds. Also how long a peer may be silent after one, so that one that vanished is noticed some time; nothing that matters
waits for it. Below 5 s etcd hangs up."""
_SUSPICIOUS = 0.1
"""Seconds of silence after something was sent."""
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""gRPC's, by their numbers."""
_packing = ContextVar("packing", default=False)
for _name in ("hpack.hpack", "hpack.table"):
    # It writes to its log, at DEBUG, each header that it packs: the token of a user who has logged in is one.
    logging.getLogger(_name).addFilter(lambda _: not _packing.get())
_BROKEN = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class Status:
    """How a stream ended, in gRPC's words."""

    code: str
    details: str


@dataclass(slots=True)
class _Stream:
    on_message: Callable[[bytes], None]
    on_end: Callable[[Status], None]
    sent_at: float = -math.inf
    to_send: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)


class Http2:
    """One connection to one member. When it broke it stays so: another one is made.

    Attributes:
        ended: Set when nothing of it runs any more.
    """

    def __init__(self, name: str, heard: Callable[[], None]) -> None:
        """Nothing is opened yet.

        Args:
            name: Whom it leads to: a host, a colon and a port.
            heard: Called when something came.
        """
        self.ended = anyio.Event()
        self._name = name
        self._heard = heard
        self._h2 = h2.connection.H2Connection(
            # Headers are compared as bytes, and what is wrong with those of a server that works is no matter of ours.
            h2.config.H2Configuration(header_encoding=None, validate_inbound_headers=False)
        )
        self._socket: ByteStream | None = None
        self._scheme = b"http"
        self._streams: dict[int, _Stream] = {}
        self._wake = LightEvent()
        self._scope = anyio.CancelScope()
        self._silent = False
        self._heard_at = -math.inf
        self._broken: Status | None = None

    async def connect(self, context: ssl.SSLContext | None) -> None:
        """Connect, and shake hands.

        Raises:
            OSError: There is nobody, or TLS fails (``ssl.SSLError``).
        """
        host, _, port = self._name.rpartition(":")
        host = host.strip("[]")
        if context is None:
            self._socket = await anyio.connect_tcp(host, int(port))
        else:
            self._scheme = b"https"
            self._socket = await anyio.connect_tcp(
                host, int(port), ssl_context=context, tls_standard_compatible=False, tls_hostname=host
            )
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW})
        self._h2.increment_flow_control_window(_WINDOW)
        spawn(self._run, "etcdleader streams", self.ended.set)

    @property
    def is_open(self) -> bool:
        """Whether a stream can be opened."""
        return self._socket is not None and self._broken is None

    def open(
        self,
        path: str,
        metadata: Any,
        on_message: Callable[[bytes], None],
        on_end: Callable[[Status], None],
    ) -> int:
        """Open a stream; returns its number.

        Args:
            path: The method's.
            metadata: What goes with it: pairs of names and values.
            on_message: Takes each message, as it is serialized.
            on_end: Told once how it ended, unless it was closed from here.

        Raises:
            h2.exceptions.H2Error: The member allows no more of them.
        """
        number = self._h2.get_next_available_stream_id()
        headers = [
            (b":method", b"POST"),
            (b":scheme", self._scheme),
            (b":path", path.encode()),
            (b":authority", self._name.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"etcdleader"),
            *((name.encode(), value.encode()) for name, value in metadata),
        ]
        packing = _packing.set(True)
        try:
            self._h2.send_headers(number, headers)
        finally:
            _packing.reset(packing)
        self._streams[number] = _Stream(on_message, on_end)
        self._wake.set()
        return number

    def send(self, number: int, message: bytes) -> None:
        """Send a message after those before it. What is sent in one go leaves in one go."""
        if (stream := self._streams.get(number)) is not None:
            stream.sent_at = time.monotonic()
            stream.to_send += b"\0" + len(message).to_bytes(_PREFIX - 1, "big") + message
            self._wake.set()

    def close_stream(self, number: int) -> None:
        """No more of it. Nothing is told. Where nothing at all has come since it sent something, the connection is at fault, and
        ends: the next stream would fare no better."""
        if (stream := self._streams.pop(number, None)) is not None and self._broken is None:
            if self._heard_at < stream.sent_at < time.monotonic() - _SUSPICIOUS:
                self._break(Status("UNAVAILABLE", "nothing came any more"))
            else:
                self._reset(number)

    def close(self) -> None:
        """Hang up. Streams that are open are told."""
        self._break(Status("CANCELLED", "the connection was closed"))
        if self._socket is None:
            self.ended.set()

    def _reset(self, number: int) -> None:
        with suppress(h2.exceptions.ProtocolError):  # it is over on the other side, too
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            self._wake.set()

    # The task

    async def _run(self) -> None:
        assert self._socket is not None
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for task in (self._write, self._read, self._ping):
                        group.start_soon(protected(self._guarded), task)
        finally:
            self._break(Status("CANCELLED", "its task was cancelled"))
            with suppress(OSError):
                # A forked child may hold the descriptor, too: to close ours would tell the member nothing.
                self._socket.extra(SocketAttribute.raw_socket).shutdown(socket.SHUT_RDWR)  # noqa: S610 - no Django
            await anyio.aclose_forcefully(self._socket)

    async def _guarded(self, task: Callable[[], Any]) -> None:
        try:
            await task()
        except (*_BROKEN, h2.exceptions.H2Error) as error:
            self._break(Status("UNAVAILABLE", str(error) or type(error).__name__))
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: it is told to whoever uses the streams
            self._break(Status("INTERNAL", repr(error)))

    def _break(self, status: Status) -> None:
        if self._broken is None:
            self._broken = status
            self._scope.cancel()
            streams, self._streams = list(self._streams.values()), {}
            for stream in streams:
                stream.on_end(status)

    async def _write(self) -> None:
        assert self._socket is not None
        while True:
            self._wake = LightEvent()
            for number, stream in self._streams.items():
                self._fill(number, stream)
            if data := self._h2.data_to_send():
                await self._socket.send(data)
            else:
                await self._wake.wait()

    def _fill(self, number: int, stream: _Stream) -> None:
        """Hand over what may leave now; the peer's window may keep the rest."""
        while stream.to_send:
            size = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            self._h2.send_data(number, bytes(stream.to_send[:size]))
            del stream.to_send[:size]

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
                self._h2.ping(b"etcdlead")
                self._wake.set()

    async def _read(self) -> None:
        assert self._socket is not None
        while True:
            data = await self._socket.receive(_READ)
            self._heard()
            self._heard_at = time.monotonic()
            self._silent = False
            for event in self._h2.receive_data(data):
                self._happened(event)
            # Acknowledgements, mostly. An answer to a ping or a wider window lets more leave, too.
            self._wake.set()

    def _happened(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            if event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if (stream := self._streams.get(event.stream_id)) is not None:
                self._received(event.stream_id, stream, event.data)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.headers.update({_text(name): _text(value) for name, value in event.headers})
        elif isinstance(event, h2.events.StreamEnded):
            if (stream := self._streams.pop(event.stream_id, None)) is not None:
                self._reset(event.stream_id)  # our half was still open
                stream.on_end(_status(stream.headers))
        elif isinstance(event, h2.events.StreamReset):
            if (stream := self._streams.pop(event.stream_id, None)) is not None:
                stream.on_end(Status("UNAVAILABLE", f"the stream was reset: {event.error_code!r}"))
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._break(
                Status(
                    "UNAVAILABLE", f"the member hangs up: {_text(event.additional_data or b'') or event.error_code!r}"
                )
            )

    def _received(self, number: int, stream: _Stream, data: bytes) -> None:
        """Hand on the messages that are whole now."""
        received = stream.received
        received += data
        at = 0
        while len(received) - at >= _PREFIX:
            end = at + _PREFIX + int.from_bytes(received[at + 1 : at + _PREFIX], "big")
            if len(received) < end:
                break
            message, compressed = bytes(received[at + _PREFIX : end]), received[at]
            at = end
            if compressed:
                self.close_stream(number)
                stream.on_end(Status("INTERNAL", "a compressed message, which was not asked for"))
                return
            stream.on_message(message)
            if number not in self._streams:
                return  # closed by what it was told
        del received[:at]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _status(headers: dict[str, str]) -> Status:
    """From the headers and trailers of a stream that has ended."""
    if "grpc-status" not in headers:
        return Status("UNAVAILABLE", f"no gRPC is spoken there: HTTP status {headers.get(':status', 'none')}")
    number = headers["grpc-status"]
    code = _CODES[int(number)] if number.isdecimal() and int(number) < len(_CODES) else "UNKNOWN"
    return Status(code, unquote(headers.get("grpc-message", "")))
