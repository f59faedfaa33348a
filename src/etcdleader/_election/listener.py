"""Who is told what happens to a candidacy."""

from __future__ import annotations

from typing import Protocol

from ..errors import EtcdLeaderError

__all__ = ("Listener",)


class Listener(Protocol):
    """Called on the event loop, as things happen; must return promptly and must not raise."""

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """A call failed or a stream broke; it is being tried again."""

    def etcd_answered(self) -> None:
        """A call succeeded."""

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """A watch of ``watcher`` broke or was refused; it is being asked for again."""

    def watch_stands(self, watcher: object) -> None:
        """``watcher`` has its watch, or wants none any more."""

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """A renewal was not confirmed."""

    def renewed(self, duration: float, remaining: float) -> None:
        """A renewal was confirmed, when ``remaining`` seconds were left."""

    def queued(self, position: int | None) -> None:
        """Our place in the queue changed."""

    def asked_to_resign(self) -> None:
        """An operator asks the leader to step down."""
