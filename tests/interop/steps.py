"""Steps that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

from tests.interop.libraries import LONG_TTL, Library
from tests.interop.program import Candidate, Record
from tests.interop.queue_reader import QueueReader

__all__ = ("Find", "join", "lead")

Find = Callable[[str], Library]


def join(queues: QueueReader, election: str, library: Library, *, ttl: int = LONG_TTL) -> Candidate:
    """Start a candidate and wait until it stands at the end of the queue."""
    candidate = library.campaign(election, ttl)
    records = queues.wait(election, lambda records: any(is_of(record, candidate) for record in records))
    assert is_of(records[-1], candidate)
    return candidate


def is_of(record: Record, candidate: Candidate) -> bool:
    """Return whether this is the candidate's key. etcdleader's identities are the name and a random number."""
    return record.value.partition("#")[0] == candidate.name


def lead(queues: QueueReader, election: str, candidate: Candidate) -> Record:
    """Wait until a candidate leads, and check that etcd has the key that it reports."""
    record = candidate.wait_elected()
    assert queues.read(election)[0] == record
    assert record.key == f"{election}/{record.lease:x}"
    return record
