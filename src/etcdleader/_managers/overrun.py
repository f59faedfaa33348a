"""The error for work that does not end with its term."""

from __future__ import annotations

from ..errors import EtcdLeaderError
from ..model import Term


class OverrunError(EtcdLeaderError):
    """Work of a term still runs after the deadline, although it was cancelled. Another candidate may lead meanwhile."""

    def __init__(self, term: Term) -> None:
        self.term = term
        super().__init__(term)

    def __str__(self) -> str:
        return (
            f"work of {self.term.identity} for {self.term.election!r} (token {self.term.token}) still runs past the "
            "end of its lease. It ignored cancellation, runs in a thread, or blocks the event loop"
        )
