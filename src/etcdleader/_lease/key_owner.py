"""The protocols between a session, the owner of its key, and the operations on that key; a step that these share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .._etcd.api import RangeResult
from ..errors import EtcdLeaderError
from ..model import LossReason
from .lease_deadline import Timing
from .leased_key import LeasedKey

if TYPE_CHECKING:
    from .._etcd.api import KeyValue, Range, Result, TxnResult


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


class KeySession(Protocol):
    """The part of a session that each operation on its key uses."""

    own: LeasedKey
    timing: Timing
    owner: KeyOwner
    loss_reason: LossReason | None

    def invalidate(self, reason: LossReason, error: EtcdLeaderError | None = None) -> None:
        """End the session for this reason."""


def read_own_key(session: KeySession, refused: TxnResult) -> KeyValue | None:
    """Return the session's key as the read of a refused Txn shows it. If it is not the session's any more, end the session."""
    found = refused.results[0]
    assert isinstance(found, RangeResult)
    kv = found.kvs[0] if found.kvs else None
    if kv is None or not session.own.matches(kv, session.owner.mod_revision):
        session.invalidate(LossReason.DELETED)
        return None
    session.owner.on_key_read(kv)
    return kv
