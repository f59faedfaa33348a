"""A gRPC client over HTTP/2, on asyncio and trio. Requests and responses are bytes."""

from __future__ import annotations

from .connection import Connection
from .exchange import Stream
from .frames import ProtocolError
from .framing import Metadata, RpcError, Status

__all__ = ("Connection", "Metadata", "ProtocolError", "RpcError", "Status", "Stream")
