"""The protocols through which a candidacy reports to its manager."""

from __future__ import annotations

from typing import Protocol

from .._lease.lease_listener import LeaseListener
from ..errors import EtcdLeaderError
from ..model import LeaderRecord


class WatchListener(Protocol):
    """The receiver of a watch's reports."""

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """Receive the error of a watch that broke or was refused. ``watcher`` creates it again."""

    def watch_recovered(self, watcher: object) -> None:
        """Record that ``watcher`` has its watch again, or no longer needs one."""


class Listener(LeaseListener, WatchListener, Protocol):
    """The receiver of the reports from a candidacy, its lease and its watches."""

    def etcd_answered(self) -> None:
        """Record that a call succeeded."""

    def queued(self, position: int | None) -> None:
        """Receive our position in the queue after a change: 0 for the leader, None outside the queue."""

    def blocked(self, key: bytes | None) -> None:
        """Receive a key in front of our key that has no lease, or None. It stays in the queue until a client deletes it."""

    def leader_seen(self, leader: LeaderRecord | None) -> None:
        """Receive the leader as a read or an event shows it; None if there is none."""

    def leader_left(self, key: str) -> None:
        """Record that the candidate with this key has left the queue. If it was the leader, the leader is unknown."""

    def asked_to_resign(self) -> None:
        """Receive an operator's request that the leader step down."""
