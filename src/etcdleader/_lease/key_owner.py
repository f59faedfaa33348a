"""The protocol between a session and the owner of its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._etcd.api import KeyValue, Range, Result


class KeyOwner(Protocol):
    """The owner of a session's key, called on the event loop. Methods must return promptly and must not raise."""

    @property
    def mod_revision(self) -> int:
        """The last known mod_revision of the key."""
        ...

    def read_with_move(self) -> Sequence[Range]:
        """Return the ranges to read in the Txn that moves the key."""
        ...

    def on_key_moved(self, mod_revision: int, read: Sequence[Result]) -> None:
        """Record that the key is on another lease. ``read`` is empty if an earlier copy of the Txn has moved the key."""

    def on_key_updated(self, mod_revision: int) -> None:
        """Record that the key has the session's new value."""

    def on_key_read(self, kv: KeyValue) -> None:
        """Receive the key as a read has shown it, with its value and our lease.

        Other clients may have put it meanwhile, as step-down requests.
        """

    def on_predecessor_absent(self) -> None:
        """Record that the key which each renewal also reads no longer exists."""
