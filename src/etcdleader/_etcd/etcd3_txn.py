"""etcd3's transactions over the port, and the term's guard: compares of its key's create_revision and lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from . import etcd3_messages  # noqa: F401 - first, so that etcd3 can be imported

from etcd3 import transactions, utils  # isort: skip
from etcd3.client import KVMetadata  # isort: skip

from .api import Compare, DeleteRange, DeleteRangeResult, Put, Range, RangeResult, TxnResult
from .etcd3_messages import etcdrpc


class Lease(transactions.BaseCompare):  # type: ignore[misc]  # etcd3 has no types
    """A compare of a key's lease, which etcd3 lacks: ``Lease("key") == 1234``."""

    # The base's __eq__ builds a comparison instead of comparing, so instances have no hash.
    __hash__ = None  # type: ignore[assignment]

    def build_compare(self, compare: Any) -> None:
        """Fill in the compare. etcd3 calls this when it builds the request."""
        compare.target = etcdrpc.Compare.LEASE
        compare.lease = int(self.value)


def guard_compares(key: str, create_revision: int, lease_id: int) -> list[Any]:
    """Return the conditions that hold while a candidate key exists unchanged: its create_revision *and* its lease.

    Both are needed, because an overwritten key keeps its create_revision. Only the lease differs then.
    """
    return [transactions.Create(key) == create_revision, Lease(key) == lease_id]


def put(key: bytes, value: bytes) -> Any:
    """Return an etcd3 operation that puts a key."""
    return transactions.Put(key, value)


def keys_put_by(operations: Sequence[Any]) -> list[bytes]:
    """Return the keys that these etcd3 operations put.

    Raises:
        TypeError: An operation is not a ``Put``, ``Get`` or ``Delete``, or requests the previous value.
    """
    return [made.key for made in map(_operation, operations) if isinstance(made, Put)]


async def transact(
    txn: Callable[..., Awaitable[TxnResult]],
    key: bytes,
    create_revision: int,
    lease_id: int,
    success: Sequence[Any],
    *,
    timeout: float,
) -> tuple[bool, list[Any]] | None:
    """Run etcd3's ``Put``, ``Get`` and ``Delete`` operations by the port's ``txn``, if the key is attached to the lease.

    They are not nested in another transaction, because an older etcd does not check the permissions of nested ones.

    Returns:
        The result of etcd3's ``client.transaction``. None: the key is not attached to the lease, and nothing was changed.

    Raises:
        TypeError: An operation is none of these, or requests the previous value.
        EtcdUnavailableError: There was no response. The transaction may or may not have been applied.
        EtcdRefusedError: etcd refused the transaction.
    """
    stands = [Compare(key, "create", create_revision), Compare(key, "lease", lease_id)]
    result = await txn(stands, [_operation(one) for one in success], (), timeout=timeout)
    return (True, [_response(one, result) for one in result.results]) if result.succeeded else None


async def transact_failure(
    txn: Callable[..., Awaitable[TxnResult]], failure: Sequence[Any], *, timeout: float
) -> tuple[bool, list[Any]]:
    """Run the ``failure`` operations of a term that has ended.

    Its key is deleted, or attached to another client's lease, and that cannot change back.
    """
    if not failure:
        return False, []
    result = await txn((), [_operation(one) for one in failure], (), timeout=timeout)
    return False, [_response(one, result) for one in result.results]


def _operation(one: Any) -> Range | Put | DeleteRange:
    if getattr(one, "prev_kv", False):
        raise TypeError("prev_kv is not supported here: put a Get before it, or use your own client with guard()")
    if isinstance(one, transactions.Put):
        return Put(utils.to_bytes(one.key), utils.to_bytes(one.value), utils.lease_to_id(one.lease))
    if isinstance(one, transactions.Get):
        return Range(utils.to_bytes(one.key), _end(one))
    if isinstance(one, transactions.Delete):
        return DeleteRange(utils.to_bytes(one.key), _end(one))
    raise TypeError(f"not an etcd3 Put, Get or Delete: {type(one).__name__}")


def _end(one: Any) -> bytes:
    return b"" if one.range_end is None else bytes(utils.to_bytes(one.range_end))


def _response(one: object, result: TxnResult) -> Any:
    if isinstance(one, RangeResult):
        return [(kv.value, KVMetadata(kv, result.header)) for kv in one.kvs]
    if isinstance(one, DeleteRangeResult):
        return etcdrpc.ResponseOp(response_delete_range=etcdrpc.DeleteRangeResponse(deleted=one.deleted))
    return etcdrpc.ResponseOp(response_put=etcdrpc.PutResponse())
