"""The events that an HTTP/2 connection produces from the bytes that it receives. Pure."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("Arrived", "Ended", "GoneAway", "Happening", "Headers", "ProtocolError")


class ProtocolError(Exception):
    """The peer broke the protocol, so the connection cannot be used any more."""


class Headers(NamedTuple):
    """Headers or trailers were received. ``ended``: they end the stream."""

    number: int
    headers: dict[str, str]
    ended: bool


class Arrived(NamedTuple):
    """Data were received. ``ended``: they end the stream."""

    number: int
    data: bytes
    ended: bool


class Ended(NamedTuple):
    """The peer reset a stream. ``unprocessed``: it has done nothing of the request (RFC 9113, 8.7)."""

    number: int
    code: int
    unprocessed: bool


class GoneAway(NamedTuple):
    """The peer accepts no more streams, and has processed none above ``last``."""

    last: int
    code: int
    why: str


Happening = Headers | Arrived | Ended | GoneAway
