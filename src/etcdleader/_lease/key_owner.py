"""What a session asks of the owner of its key, and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._etcd.api import KeyValue, Range, Result

__all__ = ("KeyOwner",)


class KeyOwner(Protocol):
    """Called on the event loop. An implementation must return promptly and must not raise."""

    @property
    def mod_revision(self) -> int:
        """The mod_revision of the key, as last seen."""
        ...

    def read_with_move(self) -> Sequence[Range]:
        """Return what to read in the transaction that moves the key."""
        ...

    def key_moved(self, mod_revision: int, read: Sequence[Result]) -> None:
        """The key is on another lease. ``read`` is empty if an earlier copy of the Txn had moved it."""

    def key_seen(self, kv: KeyValue) -> None:
        """A read has shown the key with its value and a lease of ours. Other clients may have put it, as step-down requests."""

    def companion_absent(self) -> None:
        """The key that each renewal also reads does not exist any more."""
