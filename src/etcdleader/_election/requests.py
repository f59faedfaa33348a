"""The requests of a candidate about its queue, as values. Pure."""

from __future__ import annotations

from typing import Literal

from .._etcd.api import Compare, Put, Range, Txn
from .queue import prefix_end

_NEWEST_FIRST: Literal["create-descending"] = "create-descending"


MAX_KEYS_SHOWN = 16
"""Keys that one read of a queue shows: the candidate's own and those in front of it.

If one of them has no lease, it blocks the candidate. A smaller number would cost etcd as much: it sorts the whole queue.
"""


def join_request(prefix: bytes, key: bytes, value: bytes, lease_id: int) -> Txn:
    """Return the Txn that creates the candidate key.

    It also reads the newest keys of the queue: the candidate's own and those in front of it. If the key exists already,
    the Txn reads it instead.
    """
    newest = Range(prefix, prefix_end(prefix), limit=MAX_KEYS_SHOWN, order=_NEWEST_FIRST)
    return Txn([Compare(key, "create", 0)], [Put(key, value, lease_id), newest], [Range(key)])


def newest_up_to(prefix: bytes, create_revision: int, limit: int) -> Range:
    """Return a Range of the newest keys up to the candidate's own. It shows the predecessor, if there is one."""
    return Range(prefix, prefix_end(prefix), limit=limit, order=_NEWEST_FIRST, max_create_revision=create_revision)
