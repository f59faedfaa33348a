"""The protocol through which a lease reports to its owner."""

from __future__ import annotations

from typing import Protocol

from ..errors import EtcdLeaderError


class LeaseListener(Protocol):
    """The receiver of a lease's reports, called on the event loop. Methods must return promptly and must not raise."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Receive the error of a failed call, which is retried."""

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """Receive the error of an unconfirmed renewal, with ``remaining`` seconds until the deadline."""

    def loop_was_blocked(self, seconds: float) -> None:
        """Receive how long, at least, the event loop was blocked before it detected that the lease had expired."""

    def lease_moved(self, lease_id: int) -> None:
        """Receive the key's new lease, after etcd has elected another leader."""

    def renewed(self, duration: float, remaining: float) -> None:
        """Receive a renewal that counts: confirmed for a leader, or that keeps the lease of a waiting candidate.

        Args:
            duration: The seconds from sending the renewal to its confirmation.
            remaining: The seconds that were left until the previous deadline.
        """
