"""What tests look at among the calls that reach a fake etcd."""

from __future__ import annotations

import anyio

from etcdleader._etcd.api import Range
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call


class KeepAlives:
    """When keep-alives reached etcd, and of which lease."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.seen: list[tuple[float, int]] = []
        etcd.hooks.append(self._hook)

    def _hook(self, call: Call) -> None:
        if call.kind == "lease_keep_alive" and call.stage == "before":
            self.seen.append((anyio.current_time(), call.arguments[0]))

    def times(self, lease_id: int) -> list[float]:
        return [round(time, 3) for time, lease in self.seen if lease == lease_id]


def is_confirming_read(call: Call) -> bool:
    """Whether it only reads candidate keys, as what follows a keep-alive does: a transaction, or a range of one key."""
    if call.kind == "range":
        return not call.arguments[0].range_end
    if call.kind != "txn":
        return False
    compare, success, _ = call.arguments
    return not compare and all(isinstance(operation, Range) and not operation.range_end for operation in success)


def keys_of(call: Call) -> list[bytes]:
    """The keys that a confirming read asks for."""
    return [one.key for one in (call.arguments if call.kind == "range" else call.arguments[1])]
