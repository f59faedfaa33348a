"""The package etcd3, with any installed version of protobuf: ``from etcdleader.etcd3 import etcd3``.

Use its transactions with a term's guard. The order of imports does not matter.
"""

from __future__ import annotations

from ._etcd import etcd3_finder

etcd3_finder.install()

import etcd3  # noqa: E402
import etcd3.transactions  # noqa: E402 - imported by name for type checkers

from ._etcd.etcd3_txn import Lease, guard_compares  # noqa: E402

__all__ = ("Lease", "etcd3", "guard_compares")
