"""The events of an HTTP/2 connection, decoded from the bytes that it receives. Pure."""

from __future__ import annotations

from typing import NamedTuple


class ProtocolError(Exception):
    """The peer violated the protocol, so the connection is unusable."""


class HeadersReceived(NamedTuple):
    """Headers or trailers were received. ``stream_ended``: they end the stream."""

    stream_id: int
    headers: dict[str, str]
    stream_ended: bool


class DataReceived(NamedTuple):
    """Data were received. ``stream_ended``: they end the stream."""

    stream_id: int
    data: bytes
    stream_ended: bool


class StreamReset(NamedTuple):
    """The peer reset a stream. ``unprocessed``: it has not processed any part of the request (RFC 9113, 8.7)."""

    stream_id: int
    error_code: int
    unprocessed: bool


class ConnectionTerminated(NamedTuple):
    """The peer sent GOAWAY: it accepts no more streams, and has processed no stream above ``last_stream_id``."""

    last_stream_id: int
    error_code: int
    debug_data: str


H2Event = HeadersReceived | DataReceived | StreamReset | ConnectionTerminated
