"""All planted bugs, in two groups: the tests of one file run one after another, and of two files at the same time."""

from __future__ import annotations

from types import ModuleType

from tests.planted.bug import Bug
from tests.planted.bugs import (
    connection,
    lease,
    move,
    once,
    programs,
    queue,
    registration,
    secrets,
    term,
    threads,
    views,
)

__all__ = ("BUGS", "IN_ELECTIONS", "IN_LEASES")


def _of(*modules: ModuleType) -> tuple[Bug, ...]:
    return tuple(bug for module in modules for bug in module.BUGS)


IN_LEASES = _of(lease, move, connection, registration, secrets)
IN_ELECTIONS = _of(term, threads, queue, views, once, programs)
BUGS = (*IN_LEASES, *IN_ELECTIONS)
