"""etcd3, under whatever protobuf is installed: ``from etcdleader.etcd3 import etcd3``.

Its transactions, for one, are what a term's guard is put into. The order of imports does not matter.
"""

from __future__ import annotations

from typing import Any

from ._etcd import etcd3_finder

etcd3_finder.install()

import etcd3  # noqa: E402
import etcd3.transactions  # noqa: E402 - named, so that type checkers know it
from etcd3 import etcdrpc, transactions  # noqa: E402

__all__ = ("Lease", "etcd3", "guard_compares")


class Lease(transactions.BaseCompare):  # type: ignore[misc]  # etcd3 has no types
    """Compares the lease that a key is attached to, which etcd3 has no word for: ``Lease("key") == 1234``."""

    # A class that defines __eq__ loses its hash unless it says so; the base's __eq__ builds a comparison.
    __hash__ = None  # type: ignore[assignment]

    def build_compare(self, compare: Any) -> None:
        """Called by etcd3 when it builds the request."""
        compare.target = etcdrpc.Compare.LEASE
        compare.lease = int(self.value)


def guard_compares(key: str, create_revision: int, lease_id: int) -> list[Any]:
    """The conditions that hold while a candidate key stands: its create_revision *and* its lease.

    Both, since a key that was overwritten keeps its create_revision, and only the lease tells.
    """
    return [transactions.Create(key) == create_revision, Lease(key) == lease_id]
