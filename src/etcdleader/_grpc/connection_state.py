"""The states of a connection, and a table of their transitions. Pure."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """The state of a connection."""

    IDLE = auto()
    """It is not connected yet. The peer may already send data."""
    OPEN = auto()
    """Calls and streams can be started."""
    DRAINING = auto()
    """Open calls continue if the peer processes them. No new call or stream is accepted."""
    CLOSED = auto()
    """It has failed, was closed, or its last call has ended while it was draining."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.OPEN, State.DRAINING, State.CLOSED}),  # a peer may send GOAWAY while we connect
    State.OPEN: frozenset({State.DRAINING, State.CLOSED}),
    State.DRAINING: frozenset({State.DRAINING, State.CLOSED}),  # the peer may process less than it announced at first
    State.CLOSED: frozenset(),
}
"""The states that may follow each state. Any other change is ignored, so a closed connection stays closed."""
