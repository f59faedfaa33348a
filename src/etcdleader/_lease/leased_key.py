"""The key that a lease is kept for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._etcd.api import KeyValue

__all__ = ("LeasedKey",)


@dataclass(frozen=True, slots=True)
class LeasedKey:
    """Our own key, as it must be in etcd for the lease to be worth anything."""

    key: bytes
    value: bytes
    create_revision: int
    lease_id: int

    def matches(self, kv: KeyValue | None) -> bool:
        """Return whether ``kv``, as read or put, is this key: as we put it, and on our lease."""
        return (
            kv is not None
            and kv.create_revision == self.create_revision
            and kv.lease == self.lease_id
            and kv.value == self.value
        )
