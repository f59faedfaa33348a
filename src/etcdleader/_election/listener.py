"""What a candidacy reports to its manager."""

from __future__ import annotations

from typing import Protocol

from .._lease.listener import LeaseListener
from ..errors import EtcdLeaderError

__all__ = ("Listener", "WatchListener")


class WatchListener(Protocol):
    """What a watch reports."""

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """A watch of ``watcher`` broke or was refused; it is being asked for again."""

    def watch_stands(self, watcher: object) -> None:
        """``watcher`` has its watch, or wants none any more."""


class Listener(LeaseListener, WatchListener, Protocol):
    """What a lease and watches report, and what happens to the candidacy on them."""

    def etcd_answered(self) -> None:
        """A call succeeded."""

    def queued(self, position: int | None) -> None:
        """Our place in the queue changed."""

    def blocked(self, key: bytes | None) -> None:
        """A key ahead of ours has no lease, so it leaves the queue only if an operator deletes it; None: no such key is known."""

    def asked_to_resign(self) -> None:
        """An operator asks the leader to step down."""
