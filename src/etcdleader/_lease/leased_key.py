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
        value: The value that the client has put.
        create_revision: The create_revision of the key; 0 until the key exists.
        lease_id: The lease that the key is on.
        moving_to: The lease to which a Txn without a response moves the key; 0 if there is no such Txn.
        moves: The number of completed moves.
    """

    key: bytes
    value: bytes
    create_revision: int
    lease_id: int
    moving_to: int = 0
    moves: int = 0

    def matches(self, kv: KeyValue | None) -> bool:
        """Return whether ``kv`` is this key.

        It is, if it has the same create_revision and value, and is on its lease or on the lease to which it moves.
        """
        return (
            kv is not None
            and kv.create_revision == self.create_revision
            and kv.value == self.value
            and kv.lease != 0
            and kv.lease in (self.lease_id, self.moving_to)
        )

    def moving(self, lease_id: int) -> LeasedKey:
        """Return the key while a Txn without a response moves it to this lease. 0 means that there is no such Txn."""
        return replace(self, moving_to=lease_id)

    def on_new_lease(self) -> LeasedKey:
        """Return the key on the lease to which it was moving."""
        return replace(self, lease_id=self.moving_to, moving_to=0, moves=self.moves + 1)

    def puts_by_others(self, kv: KeyValue) -> int:
        """Return how often other clients have put the key. ``kv`` shows it with our value and our lease.

        etcd counts the PUTs on a key in its ``version``. The client's own PUTs are the first one, and one for each move.
        """
        return kv.version - 1 - self.moves - (kv.lease == self.moving_to)
