"""The compression of headers, HPACK (RFC 7541). No I/O.

The library hpack decodes the peer's headers. Our headers are encoded here, without the dynamic table. So an encoded
block can be sent repeatedly, and an authentication token is never in a table.
"""

from __future__ import annotations

from collections.abc import Iterable

import hpack

from . import limits

_CACHED_BLOCKS = 32
"""The number of cached blocks. A response has two, and a server sends few different ones."""
_IN_TABLE, _LONG_PLACE = 0x80, 0xFF
"""A byte in this range is an indexed header. The last value is the first byte of a longer index."""


class HeaderDecoder:
    """A decoder for the headers of one connection. They refer to a dynamic table that earlier headers fill."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=limits.HEADER_LIST)
        self._unpacked: dict[bytes, dict[str, str]] = {}

    def decode(self, block: bytes) -> dict[str, str]:
        """Return the headers of a block. All blocks of the connection must be decoded, in order.

        Raises:
            ValueError: The block is invalid. The connection is unusable.
        """
        if (headers := self._unpacked.get(block)) is not None:
            return headers
        try:
            unpacked = self._decoder.decode(block, raw=True)
        except Exception as error:
            raise ValueError(f"headers that cannot be decoded: {error!r}") from error
        headers = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in unpacked}
        # Responses repeat the same headers. An index means the same header until the table changes.
        if len(self._unpacked) > _CACHED_BLOCKS or not all(_IN_TABLE <= byte < _LONG_PLACE for byte in block):
            self._unpacked.clear()
        else:
            self._unpacked[block] = headers
        return headers


_KNOWN = {b":authority": 1, b":path": 4, b"content-type": 31, b"user-agent": 58}
"""The indexes of header names in the static table."""
_WHOLE = {(b":method", b"POST"): 3, (b":scheme", b"http"): 6, (b":scheme", b"https"): 7}


def encode_headers(headers: Iterable[tuple[bytes, bytes]], *, secret: bool = False) -> bytes:
    """Return encoded headers, without use of the dynamic table.

    Args:
        headers: Names in lower case, and values.
        secret: Encode them as never indexed, so that proxies do not put them into a table either.
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
    """Encode an integer with a ``bits``-bit prefix (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    result, value = bytearray((first | most,)), value - most
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
