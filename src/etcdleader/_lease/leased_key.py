"""The key that a lease is kept for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._etcd.api import KeyValue

__all__ = ("LeasedKey",)


@dataclass(frozen=True, slots=True)
class LeasedKey:
    """The candidate's own key, as it must be in etcd for the lease to be trusted.

    Attributes:
        key: Its name.
        value: As we put it.
        create_revision: 0 until it stands.
        lease_id: The lease that it is on.
        moving_to: The lease to which a transaction without a response moves it; 0 when there is none.
        moves: To how many leases it has moved.
    """

    key: bytes
    value: bytes
    create_revision: int
    lease_id: int
    moving_to: int = 0
    moves: int = 0

    def is_ours(self, kv: KeyValue | None) -> bool:
        """Return whether ``kv`` is this key: same create_revision and value, attached to its lease or to the one it moves to."""
        return (
            kv is not None
            and kv.create_revision == self.create_revision
            and kv.value == self.value
            and kv.lease != 0
            and kv.lease in (self.lease_id, self.moving_to)
        )

    def moving(self, lease_id: int) -> LeasedKey:
        """Return the key while a transaction that moves it to this lease is on its way; 0: none is."""
        return replace(self, moving_to=lease_id)

    def moved(self) -> LeasedKey:
        """Return the key on the lease to which it was moving."""
        return replace(self, lease_id=self.moving_to, moving_to=0, moves=self.moves + 1)

    def puts_by_others(self, kv: KeyValue) -> int:
        """Return how often other clients have put the key, which ``kv`` shows with a value and a lease of ours.

        etcd counts the PUTs on a key in its ``version``. The first one made the key, and each move is one.
        """
        return kv.version - 1 - self.moves - (kv.lease == self.moving_to)
