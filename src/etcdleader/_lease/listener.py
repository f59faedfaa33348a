"""What a lease reports to its owner."""

from __future__ import annotations

from typing import Protocol

from ..errors import EtcdLeaderError

__all__ = ("LeaseListener",)


class LeaseListener(Protocol):
    """Called on the event loop, as things happen. An implementation must return promptly and must not raise."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed; it is being tried again."""

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """A renewal was not confirmed; ``remaining`` seconds are left until the deadline."""

    def loop_was_blocked(self, seconds: float) -> None:
        """The lease has run out, and its event loop did not run for at least so long before that was seen."""

    def lease_moved(self, lease_id: int) -> None:
        """The key is on another lease, because etcd has elected another leader."""

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed ``duration`` seconds after it was sent, when ``remaining`` seconds were left."""
