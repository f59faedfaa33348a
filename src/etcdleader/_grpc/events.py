"""The events that an HTTP/2 connection produces from the bytes that it receives. Pure."""

from __future__ import annotations

from typing import NamedTuple


class ProtocolError(Exception):
    """The peer broke the protocol, so the connection cannot be used any more."""


class HeadersReceived(NamedTuple):
    """Headers or trailers were received. ``ended``: they end the stream."""

    stream_id: int
    headers: dict[str, str]
    stream_ended: bool


class DataReceived(NamedTuple):
    """Data were received. ``ended``: they end the stream."""

    stream_id: int
    data: bytes
    stream_ended: bool


class StreamReset(NamedTuple):
    """The peer reset a stream. ``unprocessed``: it has done nothing of the request (RFC 9113, 8.7)."""

    stream_id: int
    error_code: int
    unprocessed: bool


class ConnectionTerminated(NamedTuple):
    """The peer accepts no more streams, and has processed none above ``last``."""

    last_stream_id: int
    error_code: int
    debug_data: str


H2Event = HeadersReceived | DataReceived | StreamReset | ConnectionTerminated
