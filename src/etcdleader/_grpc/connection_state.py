"""The life of a connection as a table. Pure."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """What a connection can be used for."""

    IDLE = auto()
    """It is not connected yet. The peer may speak already."""
    OPEN = auto()
    """Calls can be made and streams be opened."""
    DRAINING = auto()
    """Calls that are under way go on, as far as the peer processes them. Nothing new begins."""
    CLOSED = auto()
    """It has failed, was closed, or all its calls have ended after it began to drain."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.OPEN, State.DRAINING, State.CLOSED}),  # a peer may go away while we connect
    State.OPEN: frozenset({State.DRAINING, State.CLOSED}),
    State.DRAINING: frozenset({State.DRAINING, State.CLOSED}),  # the peer may process less than it announced at first
    State.CLOSED: frozenset(),
}
"""The states that may follow each state. A change that is not here is ignored: nothing happens to what has ended."""
