"""What a candidate asks of etcd about its queue, as values. Pure."""

from __future__ import annotations

from typing import Literal

from .._etcd.api import Compare, Put, Range, Txn
from .queue import prefix_end

__all__ = ("MOST_SHOWN", "join", "newest_up_to")

_NEWEST_FIRST: Literal["create-descending"] = "create-descending"


MOST_SHOWN = 16
"""Keys of a queue that one read shows: the candidate's own, and those before it. A key without a lease among these blocks it.
etcd sorts the whole queue for two of them, too."""


def join(prefix: bytes, key: bytes, value: bytes, lease_id: int) -> Txn:
    """Return the Txn that creates the candidate key and reads the newest keys of the queue: the candidate's own and those before it."""
    newest = Range(prefix, prefix_end(prefix), limit=MOST_SHOWN, order=_NEWEST_FIRST)
    return Txn([Compare(key, "create", 0)], [Put(key, value, lease_id), newest], [Range(key)])


def newest_up_to(prefix: bytes, create_revision: int, limit: int) -> Range:
    """Return a Range of the newest keys up to the candidate's own: it shows the predecessor, and whether there is one."""
    return Range(prefix, prefix_end(prefix), limit=limit, order=_NEWEST_FIRST, max_create_revision=create_revision)
