"""The session's key as a read must show it: create_revision, value and lease. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._etcd.api import KeyValue


@dataclass(frozen=True, slots=True)
class LeasedKey:
    """The session's own key, as it must be in etcd for the lease to be trusted.

    Attributes:
        key: The name of the key.
        value: The value that etcd has, by the last response or event.
        create_revision: The create_revision of the key; 0 until the key exists.
        lease_id: The lease that the key is on.
        moving_to: The lease to which a Txn without a response moves the key; 0 if there is no such Txn.
        moves: The number of completed moves.
        new_value: The value that a Txn without a response puts; None if there is no such Txn.
        updates: The number of completed updates of the value.
    """

    key: bytes
    value: bytes
    create_revision: int
    lease_id: int
    moving_to: int = 0
    moves: int = 0
    new_value: bytes | None = None
    updates: int = 0

    def matches(self, kv: KeyValue | None, mod_revision: int = 0) -> bool:
        """Return whether ``kv`` is this key.

        It is, if it has the same create_revision and value, and is on its lease or on the lease to which it moves.

        Args:
            kv: The key as a read or an event shows it; None if it does not exist.
            mod_revision: The last known mod_revision of this key. Below it, ``kv`` is an earlier state of this key, which
                may have an earlier value.
        """
        return (
            kv is not None
            and kv.create_revision == self.create_revision
            and (kv.value in (self.value, self.new_value) or kv.mod_revision < mod_revision)
            and kv.lease != 0
            and kv.lease in (self.lease_id, self.moving_to)
        )

    def moving(self, lease_id: int) -> LeasedKey:
        """Return the key while a Txn without a response moves it to this lease. 0 means that there is no such Txn."""
        return replace(self, moving_to=lease_id)

    def on_new_lease(self) -> LeasedKey:
        """Return the key on the lease to which it was moving."""
        return replace(self, lease_id=self.moving_to, moving_to=0, moves=self.moves + 1)

    def updating(self, value: bytes | None) -> LeasedKey:
        """Return the key while a Txn without a response puts this value. None means that there is no such Txn."""
        return replace(self, new_value=value)

    def updated(self) -> LeasedKey:
        """Return the key with the value that the Txn has put."""
        assert self.new_value is not None
        return replace(self, value=self.new_value, new_value=None, updates=self.updates + 1)

    def puts_by_others(self, kv: KeyValue) -> int:
        """Return how often other clients have put the key. ``kv`` shows it with our value and our lease.

        etcd counts the PUTs on a key in its ``version``. The client's own PUTs are the first one, one for each move, and one
        for each update of the value.
        """
        return kv.version - 1 - self.moves - self.updates - (kv.lease == self.moving_to) - (kv.value == self.new_value)
