"""What a manager tells whoever counts: the names and meanings of the numbers."""

from __future__ import annotations

from typing import Protocol

from .errors import EtcdLeaderError
from .model import LossReason, Term

__all__ = ("Metrics", "NullMetrics")


class Metrics(Protocol):
    """Called on the event loop, as things happen. An implementation must return promptly and must not raise."""

    def elected(self, term: Term) -> None:
        """A term began."""

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """A term ended and its work has ended ``drain`` seconds after it was cancelled."""

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed ``duration`` seconds after it was sent, when ``remaining`` seconds were left."""

    def renewal_failed(self, remaining: float) -> None:
        """A renewal was not confirmed; ``remaining`` seconds are left."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke."""

    def queued(self, position: int | None) -> None:
        """The place in the queue: 0 leads, None stands outside."""

    def overrun(self, term: Term) -> None:
        """Work ignored its cancellation past the deadline."""


class NullMetrics:
    """Counts nothing."""

    def elected(self, term: Term) -> None:
        """Nothing."""

    def ousted(self, term: Term, reason: LossReason, drain: float) -> None:
        """Nothing."""

    def renewed(self, duration: float, remaining: float) -> None:
        """Nothing."""

    def renewal_failed(self, remaining: float) -> None:
        """Nothing."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Nothing."""

    def queued(self, position: int | None) -> None:
        """Nothing."""

    def overrun(self, term: Term) -> None:
        """Nothing."""
