"""etcd's keys and their history. Pure: the caller passes the time and the lease ids that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .._etcd import api
from ..errors import EtcdRefusedError

MAX_TXN_OPS = 128
"""etcd's default of ``--max-txn-ops``."""


@dataclass(frozen=True, slots=True)
class Revision:
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


class Store:
    """A multi-version key-value store like etcd's. A new store is at revision 1.

    Attributes:
        revision: The revision of the last commit.
        compacted: Watches from below this revision are refused.
        keys: The present keys, in the order of their create_revision, which is a dict's insertion order.
        history: Every commit since revision 1, even if it was compacted, for tests.
    """

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.keys: dict[bytes, api.KeyValue] = {}
        self.history: list[Revision] = []
        self._on_lease: dict[int, set[bytes]] = {}
        self._events: list[api.WatchEvent] = []

    def copy(self) -> Store:
        """Return an independent copy of the keys and the history."""
        copy = Store()
        copy.revision, copy.compacted = self.revision, self.compacted
        copy.keys, copy.history = dict(self.keys), list(self.history)
        copy._on_lease = {lease: set(keys) for lease, keys in self._on_lease.items()}
        return copy

    def since(self, revision: int) -> Sequence[Revision]:
        """Return the commits from ``revision`` on."""
        return self.history[max(revision - 2, 0) :]

    def keys_on(self, lease_id: int) -> tuple[bytes, ...]:
        """Return the keys that are attached to this lease."""
        return tuple(sorted(self._on_lease.get(lease_id, ())))

    def holds(self, compare: api.Compare) -> bool:
        """Return whether a condition holds now."""
        kv = self.keys.get(compare.key)
        if compare.target == "value":
            if kv is None:
                return False  # for every comparison: etcd does not distinguish a missing value from an empty one
            return _compare(kv.value, compare)
        if kv is None:
            return _compare(0, compare)
        found = {
            "create": kv.create_revision,
            "mod": kv.mod_revision,
            "version": kv.version,
            "lease": kv.lease,
        }[compare.target]
        return _compare(found, compare)

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
        old = self.keys.get(put.key)
        kv = api.KeyValue(
            put.key,
            value=old.value if old is not None and put.ignore_value else put.value,
            create_revision=self._next if old is None else old.create_revision,
            mod_revision=self._next,
            version=1 if old is None else old.version + 1,
            lease=old.lease if old is not None and put.ignore_lease else put.lease,
        )
        if old is not None:
            self._detach(old)
        if kv.lease:
            self._on_lease.setdefault(kv.lease, set()).add(kv.key)
        self.keys[put.key] = kv
        self._events.append(api.WatchEvent("put", kv))

    def _delete(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._detach(self.keys.pop(key))
            self._events.append(api.WatchEvent("delete", api.KeyValue(key, mod_revision=self._next)))

    def _detach(self, kv: api.KeyValue) -> None:
        if kv.lease:
            keys = self._on_lease[kv.lease]
            keys.remove(kv.key)
            if not keys:
                del self._on_lease[kv.lease]

    @property
    def _next(self) -> int:
        return self.revision + 1

    def _commit(self, now: float) -> None:
        if self._events:
            self.revision += 1
            self.history.append(Revision(self.revision, now, tuple(self._events)))
            self._events = []


def _compare(found: int | bytes, compare: api.Compare) -> bool:
    wanted = compare.value
    if isinstance(found, bytes):
        assert isinstance(wanted, bytes)
        order = (found > wanted) - (found < wanted)
    else:
        assert isinstance(wanted, int)
        order = (found > wanted) - (found < wanted)
    return {"=": order == 0, "!=": order != 0, "<": order < 0, ">": order > 0}[compare.result]
