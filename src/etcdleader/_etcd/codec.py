"""Encode requests and decode responses with etcd3's protobuf messages."""

from __future__ import annotations

from typing import Any

from .api import (
    Compare,
    DeleteRangeResult,
    Header,
    KeepAlive,
    KeyValue,
    LeaseGranted,
    LeaseTimeToLive,
    MemberStatus,
    Operation,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Txn,
    TxnResult,
    WatchEvent,
)
from .etcd3_messages import etcdrpc
from .field_limit import FLAT, TXN, check_field_count
from .messages import (
    AuthenticateRequest,
    AuthenticateResponse,
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    RaftTermRequest,
    RaftTermResponse,
    StatusRequest,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchResponse,
)

_PROGRESS_REQUEST = b"\x1a\x00"
"""Field 3 of a WatchRequest, an empty message. etcd3's message classes are older than the field."""
_RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}
_TARGETS = {
    "create": "create_revision",
    "mod": "mod_revision",
    "version": "version",
    "lease": "lease",
    "value": "value",
}
_ORDERS = {"create-ascending": "ASCEND", "create-descending": "DESCEND"}

# Leases


def encode_lease_grant(request: LeaseGrantRequest) -> bytes:
    return _serialized(etcdrpc.LeaseGrantRequest(TTL=request.ttl, ID=request.lease_id))


def decode_lease_grant(data: bytes) -> LeaseGranted:
    message = _parsed(etcdrpc.LeaseGrantResponse, data)
    return LeaseGranted(message.ID, message.TTL, _header(message.header))


def encode_lease_revoke(request: LeaseRevokeRequest) -> bytes:
    return _serialized(etcdrpc.LeaseRevokeRequest(ID=request.lease_id))


def decode_lease_revoke(data: bytes) -> LeaseRevokeResponse:
    return LeaseRevokeResponse(_header(_parsed(etcdrpc.LeaseRevokeResponse, data).header))


def encode_lease_keep_alive(request: LeaseKeepAliveRequest) -> bytes:
    return _serialized(etcdrpc.LeaseKeepAliveRequest(ID=request.lease_id))


def decode_lease_keep_alive(data: bytes) -> KeepAlive:
    message = _parsed(etcdrpc.LeaseKeepAliveResponse, data)
    return KeepAlive(message.ID, message.TTL, _header(message.header))


def encode_lease_time_to_live(request: LeaseTimeToLiveRequest) -> bytes:
    return _serialized(etcdrpc.LeaseTimeToLiveRequest(ID=request.lease_id, keys=request.keys))


def decode_lease_time_to_live(data: bytes) -> LeaseTimeToLive:
    message = _parsed(etcdrpc.LeaseTimeToLiveResponse, data)
    return LeaseTimeToLive(message.ID, message.TTL, message.grantedTTL, tuple(message.keys), _header(message.header))


# The member, and the login


def encode_status(request: StatusRequest) -> bytes:
    del request
    return _serialized(etcdrpc.StatusRequest())


def decode_status(data: bytes) -> MemberStatus:
    message = _parsed(etcdrpc.StatusResponse, data)
    return MemberStatus(message.version, message.leader, _header(message.header))


def encode_authenticate(request: AuthenticateRequest) -> bytes:
    return _serialized(etcdrpc.AuthenticateRequest(name=request.name, password=request.password))


def decode_authenticate(data: bytes) -> AuthenticateResponse:
    message = _parsed(etcdrpc.AuthenticateResponse, data)
    return AuthenticateResponse(_header(message.header), message.token)


# Keys


def encode_range(request: Range) -> bytes:
    return _serialized(_range(request))


def decode_range(data: bytes) -> RangeResult:
    message = _parsed(etcdrpc.RangeResponse, data)
    return _range_result(message, _header(message.header))


def encode_raft_term(request: RaftTermRequest) -> bytes:
    return _serialized(etcdrpc.RangeRequest(key=request.key, serializable=True, count_only=True))


def decode_raft_term(data: bytes) -> RaftTermResponse:
    return RaftTermResponse(_header(_parsed(etcdrpc.RangeResponse, data).header))


def encode_txn(request: Txn) -> bytes:
    return _serialized(_txn(request))


def decode_txn(data: bytes) -> TxnResult:
    message = _parsed(etcdrpc.TxnResponse, data, TXN)
    return _txn_result(message, _header(message.header))


# Watches


def encode_watch(request: WatchCreateRequest | WatchCancelRequest | WatchProgressRequest) -> bytes:
    if isinstance(request, WatchProgressRequest):
        return _PROGRESS_REQUEST
    if isinstance(request, WatchCancelRequest):
        return _serialized(etcdrpc.WatchRequest(cancel_request=etcdrpc.WatchCancelRequest(watch_id=request.watch_id)))
    create = etcdrpc.WatchCreateRequest(
        key=request.key, range_end=request.range_end, start_revision=request.start_revision
    )
    # etcd 3.4 and 3.5 have a defect if they refuse a creation without a watch id. They treat it as watch 0, and send
    # nothing more to the existing watch with that id. So each creation has an id. etcd3's message classes are older
    # than the field, so it is added as an unknown field.
    number, field = request.watch_id, bytearray(b"\x38")  # field 7, a varint
    while number > 0x7F:
        field.append(number & 0x7F | 0x80)
        number >>= 7
    create.MergeFromString(bytes((*field, number)))
    return _serialized(etcdrpc.WatchRequest(create_request=create))


def decode_watch(data: bytes) -> WatchResponse:
    message = _parsed(etcdrpc.WatchResponse, data)
    return WatchResponse(
        _header(message.header),
        message.watch_id,
        message.created,
        message.canceled,
        message.compact_revision,
        message.cancel_reason,
        [_event(one) for one in message.events],
    )


# Parts of them


def _parsed(kind: Any, data: bytes, lists: dict[int, Any] = FLAT) -> Any:
    check_field_count(data, lists)
    return kind.FromString(data)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _header(message: Any) -> Header:
    return Header(message.cluster_id, message.member_id, message.revision, message.raft_term)


def _key_value(message: Any) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def _event(message: Any) -> WatchEvent:
    return WatchEvent("put" if message.type == 0 else "delete", _key_value(message.kv))


def _range(request: Range) -> Any:
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


def _range_result(message: Any, of: Header) -> RangeResult:
    return RangeResult(tuple(_key_value(kv) for kv in message.kvs), message.count, of)


def _compare(one: Compare) -> Any:
    message = etcdrpc.Compare(
        key=one.key,
        result=getattr(etcdrpc.Compare, _RESULTS[one.result]),
        target=getattr(etcdrpc.Compare, one.target.upper()),
    )
    setattr(message, _TARGETS[one.target], one.value)
    return message


def _txn(request: Txn) -> Any:
    return etcdrpc.TxnRequest(
        compare=[_compare(one) for one in request.compare],
        success=[_operation(one) for one in request.success],
        failure=[_operation(one) for one in request.failure],
    )


def _txn_result(message: Any, of: Header) -> TxnResult:
    responses = message.responses
    if responses and _is_empty_txn(responses[-1]):
        responses = responses[:-1]
    return TxnResult(message.succeeded, tuple([_result(one, of) for one in responses]), of)


def _is_empty_txn(response: Any) -> bool:
    """Return whether this is the result of ``EMPTY_TXN``, which makes a read go through raft's log."""
    return response.WhichOneof("response") == "response_txn" and not response.response_txn.responses


def _operation(one: Operation) -> Any:
    if isinstance(one, Txn):
        return etcdrpc.RequestOp(request_txn=_txn(one))
    if isinstance(one, Range):
        return etcdrpc.RequestOp(request_range=_range(one))
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


def _result(response: Any, of: Header) -> Result:
    kind = response.WhichOneof("response")
    if kind == "response_txn":
        return _txn_result(response.response_txn, of)
    if kind == "response_range":
        # The header inside contains only the revision.
        return _range_result(response.response_range, of)
    if kind == "response_delete_range":
        return DeleteRangeResult(response.response_delete_range.deleted)
    return PutResult()
