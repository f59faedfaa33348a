"""Record the moves of keys to other leases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etcdleader import Term
from etcdleader._etcd.api import Operation, Put, Txn
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from tests.sim.world import CONFIG, until

__all__ = ("Seen", "moved", "moves_in")


def moves_in(call: Call) -> Iterator[tuple[bytes, int]]:
    """Return the keys that a transaction moves, each with its new lease."""
    if call.kind != "txn":
        return
    compare, success, _ = call.arguments
    operations: list[tuple[Any, Operation]] = [(compare, one) for one in success]
    for conditions, one in operations:
        if isinstance(one, Txn):
            operations += [(one.compare, each) for each in one.success]
        elif isinstance(one, Put) and any(each.target == "mod" for each in conditions):
            yield one.key, one.lease


class Seen:
    """Records the moves that reached etcd."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.moves: list[tuple[bytes, int]] = []
        self.transactions = 0
        etcd.hooks.append(self._hook)

    def _hook(self, call: Call) -> None:
        if call.stage == "before" and (moves := list(moves_in(call))):
            self.moves += moves
            self.transactions += 1


async def moved(etcd: FakeEtcd, term: Term) -> int:
    """Elect another leader of etcd, and wait until the term's key has moved. Return the lease from before."""
    before = term.lease_id
    etcd.change_leader()
    await until(lambda: term.lease_id != before, timeout=CONFIG.renew + CONFIG.lease / 2)
    return before
