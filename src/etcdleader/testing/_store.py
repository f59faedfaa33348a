"""etcd's keys and their history. Pure: the caller passes the time and the lease ids that exist."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from .._etcd import api
from ..errors import EtcdRefusedError

MAX_TXN_OPS = 128
"""etcd's default of ``--max-txn-ops``."""
MAX_REQUEST_BYTES = 1536 * 1024
"""etcd's default of ``--max-request-bytes``."""
_COMPARED = {
    "create": "create_revision",
    "mod": "mod_revision",
    "version": "version",
    "lease": "lease",
    "value": "value",
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit.

    Attributes:
        revision: Its number.
        time: The time of the commit, on the loop's clock.
        events: Its changes, in order. A revoked lease's keys are deleted in one revision.
    """

    revision: int
    time: float
    events: tuple[api.WatchEvent, ...]


def in_range(found: bytes, key: bytes, range_end: bytes) -> bool:
    """Return whether a key is ``key``, or is in ``[key, range_end)`` by etcd's rules."""
    if not range_end:
        return found == key
    return key <= found and (range_end == b"\0" or found < range_end)


@dataclass(eq=False, repr=False)
class Store:
    """A multi-version key-value store like etcd's. A new store is at revision 1.

    Attributes:
        revision: The revision of the last commit.
        compacted: Watches from below this revision are refused.
        keys: The present keys, in the order of their create_revision, which is a dict's insertion order.
        history: Every commit since revision 1, even if it was compacted, for tests.
    """

    revision: int = 1
    compacted: int = 0
    keys: dict[bytes, api.KeyValue] = field(default_factory=dict)
    history: list[Commit] = field(default_factory=list)
    _on_lease: defaultdict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _events: list[api.WatchEvent] = field(default_factory=list)

    def copy(self) -> Store:
        """Return an independent copy of the keys and the history."""
        keys, history = dict(self.keys), list(self.history)
        return replace(self, keys=keys, history=history, _on_lease=deepcopy(self._on_lease), _events=[])

    def since(self, revision: int) -> Sequence[Commit]:
        """Return the commits from ``revision`` on."""
        return self.history[max(revision - 2, 0) :]

    def keys_on(self, lease_id: int) -> tuple[bytes, ...]:
        """Return the keys that are attached to this lease."""
        return tuple(sorted(self._on_lease.get(lease_id, ())))

    def holds(self, compare: api.Compare) -> bool:
        """Return whether a condition holds now."""
        kv = self.keys.get(compare.key)
        if kv is None and compare.target == "value":
            return False  # for every comparison: etcd does not distinguish a missing value from an empty one
        found = getattr(kv or api.KeyValue(compare.key), _COMPARED[compare.target])
        assert isinstance(compare.value, type(found))
        return _COMPARISONS[compare.result](found, compare.value)

    def check(self, operations: api.Operations, lease_exists: Callable[[int], bool]) -> None:
        """Raise an error if an operation cannot be done, before any of them changes anything.

        Raises:
            LeaseNotFoundError: A put names a lease that does not exist.
            EtcdRefusedError: A put keeps the value or the lease of a key that does not exist.
        """
        for put in operations:
            if isinstance(put, api.Txn):
                self.check(self.branch(put), lease_exists)
            if not isinstance(put, api.Put):
                continue
            if (put.ignore_value or put.ignore_lease) and put.key not in self.keys:
                raise EtcdRefusedError("etcdserver: key not found")
            if put.lease and not lease_exists(put.lease):
                raise api.LeaseNotFoundError("etcdserver: requested lease not found")

    def branch(self, txn: api.Txn) -> api.Operations:
        """Return the operations that a transaction would run now."""
        return txn.success if all(self.holds(one) for one in txn.compare) else txn.failure

    def apply(self, operations: api.Operations, now: float, header: Callable[[int], api.Header]) -> list[api.Result]:
        """Run the operations of one transaction in order, as one revision, and return their results."""
        # etcd decides on all branches before it changes anything.
        branches = {index: self.branch(one) for index, one in enumerate(operations) if isinstance(one, api.Txn)}
        results = self._apply(operations, branches, header)
        self._commit(now)
        return results

    def _apply(
        self,
        operations: api.Operations,
        branches: Mapping[int, api.Operations],
        header: Callable[[int], api.Header],
    ) -> list[api.Result]:
        results: list[api.Result] = []
        for index, operation in enumerate(operations):
            if operation == api.EMPTY_TXN:
                continue  # it has no result
            match operation:
                case api.Txn():
                    within = self._apply(branches[index], {}, header)
                    succeeded = branches[index] is operation.success
                    results.append(api.TxnResult(succeeded, tuple(within), header(self._next)))
                case api.Range():
                    results.append(self._range(operation, header))
                case api.Put():
                    self._put(operation)
                    results.append(api.PutResult())
                case api.DeleteRange():
                    doomed = [kv.key for kv in self._find(operation.key, operation.range_end)]
                    self._delete(sorted(doomed))
                    results.append(api.DeleteRangeResult(len(doomed)))
        return results

    def delete_keys_on(self, lease_id: int, now: float) -> None:
        """Delete the keys of a lease, in one revision. If it has no keys, there is no new revision."""
        self._delete(self.keys_on(lease_id))
        self._on_lease.pop(lease_id, None)
        self._commit(now)

    def _find(self, key: bytes, range_end: bytes) -> list[api.KeyValue]:
        if not range_end:
            return [self.keys[key]] if key in self.keys else []
        return [kv for found, kv in self.keys.items() if in_range(found, key, range_end)]

    def _range(self, request: api.Range, header: Callable[[int], api.Header]) -> api.RangeResult:
        kvs = self._find(request.key, request.range_end)
        count = len(kvs)
        if request.max_create_revision:
            kvs = [kv for kv in kvs if kv.create_revision <= request.max_create_revision]
        if request.order is None:
            kvs.sort(key=lambda kv: kv.key)
        elif request.order == "create-descending":
            kvs.reverse()
        if request.limit:
            kvs = kvs[: request.limit]
        if request.keys_only:
            kvs = [kv._replace(value=b"", lease=0) for kv in kvs]  # etcd 3.7 omits the lease, too
        return api.RangeResult(tuple(kvs), count, header(self._next if self._events else self.revision))

    def _put(self, put: api.Put) -> None:
        old = self.keys.get(put.key) or api.KeyValue(put.key, put.value, create_revision=self._next, lease=put.lease)
        kv = old._replace(
            value=old.value if put.ignore_value else put.value,
            mod_revision=self._next,
            version=old.version + 1,
            lease=old.lease if put.ignore_lease else put.lease,
        )
        self._on_lease[old.lease].discard(kv.key)
        self._on_lease[kv.lease].add(kv.key)
        self.keys[put.key] = kv
        self._events.append(api.WatchEvent("put", kv))

    def _delete(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._on_lease[self.keys.pop(key).lease].remove(key)
            self._events.append(api.WatchEvent("delete", api.KeyValue(key, mod_revision=self._next)))

    @property
    def _next(self) -> int:
        return self.revision + 1

    def _commit(self, now: float) -> None:
        if self._events:
            self.revision += 1
            self.history.append(Commit(self.revision, now, tuple(self._events)))
            self._events = []
