"""The compression of headers, HPACK (RFC 7541). No I/O.

The library hpack unpacks the peer's headers. Ours are packed here, without the dynamic table: so a block that was
packed once can be sent again, and a token is in no table and no log.
"""

from __future__ import annotations

from collections.abc import Iterable

import hpack

from . import limits

_KEPT = 32
"""Blocks: a response has two, and a server few kinds of them."""
_IN_TABLE, _LONG_PLACE = 0x80, 0xFF
"""A byte in this range is a whole header, by its index. The last value is the first byte of a longer index."""


class HeaderDecoder:
    """Unpacks the headers of one connection. They refer to a table that the peer fills in their course."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=limits.HEADER_LIST)
        self._unpacked: dict[bytes, dict[str, str]] = {}

    def decode(self, block: bytes) -> dict[str, str]:
        """Unpack a block. Each block of the connection must be given, in order.

        Raises:
            ValueError: The block is invalid. The connection cannot be used any more.
        """
        if (headers := self._unpacked.get(block)) is not None:
            return headers
        try:
            unpacked = self._decoder.decode(block, raw=True)
        except Exception as error:
            raise ValueError(f"headers that cannot be unpacked: {error!r}") from error
        headers = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in unpacked}
        # Responses repeat the same headers. An index means the same header until the table changes.
        if len(self._unpacked) > _KEPT or not all(_IN_TABLE <= byte < _LONG_PLACE for byte in block):
            self._unpacked.clear()
        else:
            self._unpacked[block] = headers
        return headers


_KNOWN = {b":authority": 1, b":path": 4, b"content-type": 31, b"user-agent": 58}
"""Their indexes in the static table."""
_WHOLE = {(b":method", b"POST"): 3, (b":scheme", b"http"): 6, (b":scheme", b"https"): 7}


def encode_headers(headers: Iterable[tuple[bytes, bytes]], *, secret: bool = False) -> bytes:
    """Return headers as they are sent, without the dynamic table.

    Args:
        headers: Names in lower case, and values.
        secret: Whether proxies must not put them into a table either (never indexed).
    """
    block = bytearray()
    for name, value in headers:
        if (place := _WHOLE.get((name, value))) is not None:
            block.append(0x80 | place)
            continue
        kind = 0x10 if secret else 0x00
        if (place := _KNOWN.get(name)) is not None:
            block += _integer(place, 4, kind)
        else:
            block.append(kind)
            block += _integer(len(name), 7, 0) + name
        block += _integer(len(value), 7, 0) + value
    return bytes(block)


def _integer(value: int, bits: int, first: int) -> bytes:
    """Return a number as an integer with a prefix of so many bits (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    result, value = bytearray((first | most,)), value - most
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
