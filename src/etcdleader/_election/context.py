"""The parameters that all candidacies of a campaign share: identity, election key, timing, clock, listener, connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from .._lease.lease_deadline import Timing
from .._lease.shared_connection import SharedConnection
from .._runtime.clock import Clock
from .election_listener import Listener


@dataclass(frozen=True, slots=True)
class ElectionContext:
    """One manager's parameters in one election.

    Attributes:
        identity: The identity of the candidate.
        election_key: The name of the election.
        timing: The durations of the lease.
        clock: The manager's clock.
        listener: Receives the reports of the candidacies.
        value: Returns the current value of a new candidate key.
        connect: Returns a context manager that uses the manager's shared connection.
    """

    identity: str
    election_key: str
    timing: Timing
    clock: Clock
    listener: Listener
    value: Callable[[], bytes]
    connect: Callable[[], AbstractAsyncContextManager[SharedConnection]]
