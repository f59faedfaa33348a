"""A limit on the fields of a message, checked before the message is parsed. Pure.

An empty event takes two bytes in a message, and two hundred in memory. A message of the allowed length could contain
millions of them, and parsing it would block the event loop for seconds.
"""

from __future__ import annotations

from typing import Any

FIELDS = 2**15
"""Maximum number of fields in one message. No election has as many candidates, and no batch of reads as many keys."""
_SHORT_BYTES = 2 * FIELDS
"""A message of at most this length cannot have more fields than ``FIELDS``."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

FLAT: dict[int, Any] = {}
"""A message whose lists have elements without lists. This is every message type except one."""
TXN: dict[int, Any] = {0x1A: {0x0A: FLAT, 0x12: FLAT, 0x1A: FLAT}}
"""A TxnResponse, whose results have lists. A result may itself be a TxnResponse."""
TXN[0x1A][0x22] = TXN


def check_field_count(data: bytes, lists: dict[int, Any]) -> None:
    """Count the fields of a long message before it is parsed.

    Args:
        data: The message.
        lists: The tags of the fields that are messages with lists, each with the tags inside that message.

    Raises:
        ValueError: There are more than ``FIELDS`` fields, or the data is not a message.
    """
    if len(data) > _SHORT_BYTES:
        try:
            _walk(data, 0, len(data), lists, FIELDS)
        except (IndexError, RecursionError) as error:
            raise ValueError("the message ends too early, or is nested too deeply") from error


def _walk(data: bytes, at: int, end: int, lists: dict[int, Any], left: int) -> int:
    """Return how many of the allowed fields are left."""
    while at < end:
        left -= 1
        if left < 0:
            raise ValueError(f"the message has more than {FIELDS} fields")
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if tag in lists:
                left = _walk(data, at, min(at + size, end), lists[tag], left)
            at += size
        elif kind in {_FIXED32, _FIXED64}:
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"the message has a field of the unknown type {kind}")
    return left


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise ValueError("the message has a number that is too long")
    return value | byte << shift, at + 1
