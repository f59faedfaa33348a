"""What all candidacies of a campaign have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from .._lease.connection import Connection
from .._lease.lease_clock import Timing
from .._runtime.clock import Clock
from .listener import Listener

__all__ = ("ElectionContext",)


@dataclass(frozen=True, slots=True)
class ElectionContext:
    """One election, as one manager takes part in it.

    Attributes:
        identity: The value of the candidate keys.
        election_key: The name of the election.
        timing: The durations of the election.
        clock: The manager's.
        listener: Receives what happens.
        connect: Joins the connection that the manager uses.
    """

    identity: str
    election_key: str
    timing: Timing
    clock: Clock
    listener: Listener
    connect: Callable[[], AbstractAsyncContextManager[Connection]]
