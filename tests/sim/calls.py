"""Record and classify the calls that reach a fake etcd."""

from __future__ import annotations

import anyio

from etcdleader._etcd.api import EMPTY_TXN, Range
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call


class KeepAlives:
    """Records when keep-alives reached etcd, and for which lease."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.seen: list[tuple[float, int]] = []
        etcd.hooks.append(self._hook)

    def _hook(self, call: Call) -> None:
        if call.kind == "lease_keep_alive" and call.stage == "before":
            self.seen.append((anyio.current_time(), call.arguments[0]))

    def times(self, lease_id: int) -> list[float]:
        return [round(time, 3) for time, lease in self.seen if lease == lease_id]


def is_confirming_read(call: Call) -> bool:
    """Return whether a transaction only reads candidate keys, as the confirming read of a renewal does."""
    if call.kind != "txn":
        return False
    compare, success, failure = call.arguments
    reads = all(isinstance(operation, Range) and not operation.range_end for operation in success)
    return not compare and reads and failure == (EMPTY_TXN,)


def is_proposal(call: Call) -> bool:
    """Return whether a transaction changes nothing, as the proposal of a renewal does."""
    return call.kind == "txn" and any(one.target == "version" and one.result == "<" for one in call.arguments[0])


def keys_of(call: Call) -> list[bytes]:
    """Return the keys that a confirming read requests."""
    return [one.key for one in call.arguments[1]]
