"""etcd3, under whatever protobuf is installed: ``from etcdleader.etcd3 import etcd3``.

Its transactions, for one, are what a term's guard is put into. The order of imports does not matter.
"""

from __future__ import annotations

from ._etcd import etcd3_finder

etcd3_finder.install()

import etcd3  # noqa: E402
import etcd3.transactions  # noqa: E402 - named, so that type checkers know it

from ._etcd.etcd3_txn import Lease, guard_compares  # noqa: E402

__all__ = ("Lease", "etcd3", "guard_compares")
