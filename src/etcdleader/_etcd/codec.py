"""The port's values as etcd3's protobuf messages, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .api import (
    Compare,
    DeleteRangeResult,
    Event,
    Header,
    KeyValue,
    Operation,
    Put,
    PutResult,
    Range,
    RangeResult,
    TxnResult,
)
from .etcd3_messages import etcdrpc

__all__ = (
    "event",
    "header",
    "range_request",
    "range_result",
    "txn_request",
    "txn_result",
    "watch_create_request",
)

_RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}
_TARGETS = {
    "create": "create_revision",
    "mod": "mod_revision",
    "version": "version",
    "lease": "lease",
    "value": "value",
}
_ORDERS = {"create-ascending": "ASCEND", "create-descending": "DESCEND"}


def header(message: Any) -> Header:
    return Header(message.cluster_id, message.member_id, message.revision, message.raft_term)


def key_value(message: Any) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def event(message: Any) -> Event:
    return Event("put" if message.type == 0 else "delete", key_value(message.kv))


def range_request(request: Range) -> Any:
    message = etcdrpc.RangeRequest(
        key=request.key,
        range_end=request.range_end,
        limit=request.limit,
        max_create_revision=request.max_create_revision,
        keys_only=request.keys_only,
    )
    if request.order is not None:
        message.sort_target = etcdrpc.RangeRequest.CREATE
        message.sort_order = getattr(etcdrpc.RangeRequest, _ORDERS[request.order])
    return message


def range_result(message: Any, of: Header) -> RangeResult:
    return RangeResult(tuple(key_value(kv) for kv in message.kvs), message.count, of)


def txn_request(
    compare: Sequence[Compare],
    success: Sequence[Operation],
    failure: Sequence[Operation],
    *,
    by_consensus: bool = False,
) -> Any:
    """``by_consensus`` makes etcd take also one that only reads for one that writes, and so through raft's log: the
    empty transaction that it gets in one branch does nothing, and its result is left out by ``txn_result``."""
    message = etcdrpc.TxnRequest(
        compare=[_compare(one) for one in compare],
        success=[_operation(one) for one in success],
        failure=[_operation(one) for one in failure],
    )
    if by_consensus:
        message.failure.add(request_txn=etcdrpc.TxnRequest())
    return message


def _compare(one: Compare) -> Any:
    message = etcdrpc.Compare(
        key=one.key,
        result=getattr(etcdrpc.Compare, _RESULTS[one.result]),
        target=getattr(etcdrpc.Compare, one.target.upper()),
    )
    setattr(message, _TARGETS[one.target], one.value)
    return message


def _operation(one: Operation) -> Any:
    if isinstance(one, Range):
        return etcdrpc.RequestOp(request_range=range_request(one))
    if isinstance(one, Put):
        return etcdrpc.RequestOp(
            request_put=etcdrpc.PutRequest(
                key=one.key,
                value=one.value,
                lease=one.lease,
                ignore_value=one.ignore_value,
                ignore_lease=one.ignore_lease,
            )
        )
    return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=one.key, range_end=one.range_end))


def txn_result(message: Any) -> TxnResult:
    of = header(message.header)
    results = (_result(one, of) for one in message.responses if one.WhichOneof("response") != "response_txn")
    return TxnResult(message.succeeded, tuple(results), of)


def _result(response: Any, of: Header) -> RangeResult | PutResult | DeleteRangeResult:
    kind = response.WhichOneof("response")
    if kind == "response_range":
        # The header inside has the revision only.
        return range_result(response.response_range, of)
    if kind == "response_delete_range":
        return DeleteRangeResult(response.response_delete_range.deleted)
    return PutResult()


def watch_create_request(key: bytes, range_end: bytes, start_revision: int, watch_id: int) -> Any:
    """Ask for a watch under a number of our own, above 0.

    When etcd 3.4 or 3.5 refuses one that brings no number, it takes it for number 0, and is silent from then on to the
    watch that stands under that. etcd3's messages are older than the field, so it goes along as an unknown one.
    """
    create = etcdrpc.WatchCreateRequest(key=key, range_end=range_end, start_revision=start_revision)
    number, field = watch_id, bytearray(b"\x38")  # field 7, a varint
    while number > 0x7F:
        field.append(number & 0x7F | 0x80)
        number >>= 7
    create.MergeFromString(bytes((*field, number)))
    return etcdrpc.WatchRequest(create_request=create)
