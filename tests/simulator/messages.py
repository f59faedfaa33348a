"""etcd's requests and responses as a server sees them: bytes to values, and values to bytes."""

from __future__ import annotations

from typing import Any

from etcdleader._etcd import api, messages
from etcdleader._etcd.etcd3_messages import etcdrpc

__all__ = ("decode_request", "encode_response")

_RESULTS = {0: "=", 1: ">", 2: "<", 3: "!="}
_TARGETS = {0: "version", 1: "create", 2: "mod", 3: "value", 4: "lease"}
_FIELDS = {
    "create": "create_revision", "mod": "mod_revision", "version": "version", "lease": "lease", "value": "value"
}  # fmt: skip
_ORDERS = {0: None, 1: "create-ascending", 2: "create-descending"}
_WATCH_ID = 7


def decode_request(path: str, data: bytes) -> Any:
    """Return the value of a request to a method."""
    match path.rpartition("/")[2]:
        case "Range":
            found = etcdrpc.RangeRequest.FromString(data)
            return messages.RaftTermRequest(found.key) if found.serializable else _range(found)
        case "Txn":
            return _txn(etcdrpc.TxnRequest.FromString(data))
        case "LeaseGrant":
            grant = etcdrpc.LeaseGrantRequest.FromString(data)
            return messages.LeaseGrantRequest(grant.TTL, grant.ID)
        case "LeaseRevoke":
            return messages.LeaseRevokeRequest(etcdrpc.LeaseRevokeRequest.FromString(data).ID)
        case "LeaseKeepAlive":
            return messages.LeaseKeepAliveRequest(etcdrpc.LeaseKeepAliveRequest.FromString(data).ID)
        case "LeaseTimeToLive":
            asked = etcdrpc.LeaseTimeToLiveRequest.FromString(data)
            return messages.LeaseTimeToLiveRequest(asked.ID, asked.keys)
        case "Status":
            return messages.StatusRequest()
        case "Authenticate":
            login = etcdrpc.AuthenticateRequest.FromString(data)
            return messages.AuthenticateRequest(login.name, login.password)
        case "Watch":
            return _watch(data)
    raise ValueError(path)


def _range(found: Any) -> api.Range:
    order: Any = _ORDERS[found.sort_order]
    return api.Range(found.key, found.range_end, found.limit, order, found.max_create_revision, found.keys_only)


def _txn(found: Any) -> api.Txn:
    compare = tuple(
        api.Compare(one.key, _TARGETS[one.target], getattr(one, _FIELDS[_TARGETS[one.target]]), _RESULTS[one.result])  # type: ignore[arg-type]
        for one in found.compare
    )
    return api.Txn(compare, tuple(map(_operation, found.success)), tuple(map(_operation, found.failure)))


def _operation(one: Any) -> api.Operation:
    match one.WhichOneof("request"):
        case "request_range":
            return _range(one.request_range)
        case "request_put":
            put = one.request_put
            return api.Put(put.key, put.value, put.lease, put.ignore_value, put.ignore_lease)
        case "request_delete_range":
            return api.DeleteRange(one.request_delete_range.key, one.request_delete_range.range_end)
    return _txn(one.request_txn)


def _watch(data: bytes) -> Any:
    if data == b"\x1a\x00":
        return messages.WatchProgressRequest()
    found = etcdrpc.WatchRequest.FromString(data)
    if found.WhichOneof("request_union") == "cancel_request":
        return messages.WatchCancelRequest(found.cancel_request.watch_id)
    create = found.create_request
    return messages.WatchCreateRequest(create.key, create.range_end, create.start_revision, _watch_id(data))


def _watch_id(data: bytes) -> int:
    """Return the last field, which etcd3's messages are too old for: the client appends it (field 7, a varint)."""
    at = len(data) - 1
    while data[at - 1] & 0x80:
        at -= 1
    value = 0
    for place, byte in enumerate(data[at:]):
        value |= (byte & 0x7F) << 7 * place
    assert data[at - 1] == _WATCH_ID << 3
    return value


def encode_response(request: Any, response: Any) -> bytes:
    """Return the bytes of the response to a request."""
    return bytes(_response(request, response).SerializeToString())


def _response(request: Any, response: Any) -> Any:
    header = _header(response.header)
    match request:
        case api.Range():
            return _filled_range(etcdrpc.RangeResponse(header=header), response)
        case messages.RaftTermRequest():
            return etcdrpc.RangeResponse(header=header)
        case api.Txn():
            return _filled_txn(etcdrpc.TxnResponse(header=header), response)
        case messages.LeaseGrantRequest():
            return etcdrpc.LeaseGrantResponse(header=header, ID=response.lease_id, TTL=response.ttl)
        case messages.LeaseRevokeRequest():
            return etcdrpc.LeaseRevokeResponse(header=header)
        case messages.LeaseKeepAliveRequest():
            return etcdrpc.LeaseKeepAliveResponse(header=header, ID=response.lease_id, TTL=response.ttl)
        case messages.LeaseTimeToLiveRequest():
            return etcdrpc.LeaseTimeToLiveResponse(
                header=header, ID=response.lease_id, TTL=response.ttl, grantedTTL=response.granted_ttl,
                keys=response.keys,
            )  # fmt: skip
        case messages.StatusRequest():
            return etcdrpc.StatusResponse(header=header, version=response.version, leader=response.leader)
        case messages.AuthenticateRequest():
            return etcdrpc.AuthenticateResponse(header=header, token=response.token)
    watch = etcdrpc.WatchResponse(
        header=header, watch_id=response.watch_id, created=response.created, canceled=response.canceled,
        compact_revision=response.compact_revision, cancel_reason=response.cancel_reason,
    )  # fmt: skip
    for one in response.events:
        event = watch.events.add(type=1 if one.type == "delete" else 0)
        _fill_key_value(event.kv, one.kv)
    return watch


def _header(header: api.Header) -> Any:
    return etcdrpc.ResponseHeader(
        cluster_id=header.cluster_id, member_id=header.member_id, revision=header.revision, raft_term=header.raft_term
    )


def _filled_range(message: Any, result: api.RangeResult) -> Any:
    message.count = result.count
    for kv in result.kvs:
        _fill_key_value(message.kvs.add(), kv)
    return message


def _fill_key_value(message: Any, kv: api.KeyValue) -> None:
    message.key, message.value = kv.key, kv.value
    message.create_revision, message.mod_revision = kv.create_revision, kv.mod_revision
    message.version, message.lease = kv.version, kv.lease


def _filled_txn(message: Any, result: api.TxnResult) -> Any:
    message.succeeded = result.succeeded
    for one in result.results:
        response = message.responses.add()
        match one:
            case api.RangeResult():
                _filled_range(response.response_range, one)
            case api.TxnResult():
                _filled_txn(response.response_txn, one)
                response.response_txn.SetInParent()
            case api.DeleteRangeResult():
                response.response_delete_range.deleted = one.deleted
                response.response_delete_range.SetInParent()
            case _:
                response.response_put.SetInParent()
    return message
