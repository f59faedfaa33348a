"""etcd's RPCs that the client uses: the path and the codec of each. The codec determines the types of its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import codec

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Rpc(Generic[Q, A]):
    """One RPC in etcd's API.

    Attributes:
        name: The name for display.
        path: The HTTP path.
        encode: Serializes a request.
        decode: Parses a response. It raises protobuf's error if the response cannot be parsed.
    """

    name: str
    path: str
    encode: Callable[[Q], bytes]
    decode: Callable[[bytes], A]


RANGE = Rpc("range", "/etcdserverpb.KV/Range", codec.encode_range, codec.decode_range)
RAFT_TERM = Rpc("raft term", "/etcdserverpb.KV/Range", codec.encode_raft_term, codec.decode_raft_term)
TXN = Rpc("transaction", "/etcdserverpb.KV/Txn", codec.encode_txn, codec.decode_txn)
LEASE_GRANT = Rpc("grant", "/etcdserverpb.Lease/LeaseGrant", codec.encode_lease_grant, codec.decode_lease_grant)
LEASE_REVOKE = Rpc(
    "revocation", "/etcdserverpb.Lease/LeaseRevoke", codec.encode_lease_revoke, codec.decode_lease_revoke
)
LEASE_TIME_TO_LIVE = Rpc(
    "time to live",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    codec.encode_lease_time_to_live,
    codec.decode_lease_time_to_live,
)
AUTHENTICATE = Rpc("login", "/etcdserverpb.Auth/Authenticate", codec.encode_authenticate, codec.decode_authenticate)
STATUS = Rpc("status", "/etcdserverpb.Maintenance/Status", codec.encode_status, codec.decode_status)
# These two RPCs are bidirectional streams.
LEASE_KEEP_ALIVE = Rpc(
    "keep-alives", "/etcdserverpb.Lease/LeaseKeepAlive", codec.encode_lease_keep_alive, codec.decode_lease_keep_alive
)
WATCH = Rpc("watches", "/etcdserverpb.Watch/Watch", codec.encode_watch, codec.decode_watch)
