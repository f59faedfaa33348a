"""Find an election whose prefix holds a key: every key there is a candidate, and counts in the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import anyio

from .._election.candidate_value import is_candidate
from .._election.queue import prefix_end
from .._etcd.api import KeyValue, Range
from .._lease.backoff import Backoff
from .._lease.shared_connection import SharedConnection
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError

_MAX_KEYS_PER_PREFIX = 16
"""The oldest keys of each prefix that are read. In an election, the oldest key is the leader's."""


def prefixes_of(key: bytes) -> Iterator[bytes]:
    """Return the prefixes that end in a slash and contain the key, the longest first. A prefix contains itself."""
    end = len(key)
    while (slash := key.rfind(b"/", 1, end)) > 0:
        yield key[: slash + 1]
        end = slash


async def find_election_above(
    connection: SharedConnection, key: bytes, retry: float, on_error: Callable[[EtcdLeaderError], None]
) -> str | None:
    """Return the name of an election whose prefix contains the key; None if no candidate shows one.

    A prefix that the user may not read is skipped. Other errors go to ``on_error``, and the read is repeated.

    Raises:
        EtcdRegressedError: The cluster's revision went back.
    """
    for prefix in prefixes_of(key):
        found = await _oldest(connection, prefix, retry, on_error)
        if any(is_candidate(prefix, kv) for kv in found):
            return prefix[:-1].decode(errors="replace")
    return None


async def _oldest(
    connection: SharedConnection, prefix: bytes, retry: float, on_error: Callable[[EtcdLeaderError], None]
) -> Sequence[KeyValue]:
    request = Range(prefix, prefix_end(prefix), limit=_MAX_KEYS_PER_PREFIX, order="create-ascending")
    backoff = Backoff(retry, connection.uniform)
    while True:
        try:
            return (await connection.range(request, timeout=retry)).kvs
        except EtcdRegressedError:
            raise
        except EtcdRefusedError:
            return ()  # no permission for this prefix; a refused login also refuses the put that follows
        except EtcdLeaderError as error:
            on_error(error)
        await anyio.sleep(backoff.next())
