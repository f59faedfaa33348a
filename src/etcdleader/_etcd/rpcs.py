"""etcd's methods, by their addresses, with the messages they answer with. No client of gRPC's is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .etcd3_messages import etcdrpc

__all__ = (
    "AUTHENTICATE",
    "KEEP_ALIVES",
    "LEASE_GRANT",
    "LEASE_REVOKE",
    "LEASE_TIME_TO_LIVE",
    "RANGE",
    "STATUS",
    "TXN",
    "WATCHES",
    "Method",
)


@dataclass(frozen=True)
class Method:
    """A method of etcd's.

    Attributes:
        name: For people.
        path: Its address, in HTTP.
        answer: Makes a message of what was serialized.
    """

    name: str
    path: str
    answer: Callable[[bytes], Any]


RANGE = Method("range", "/etcdserverpb.KV/Range", etcdrpc.RangeResponse.FromString)
TXN = Method("transaction", "/etcdserverpb.KV/Txn", etcdrpc.TxnResponse.FromString)
LEASE_GRANT = Method("grant", "/etcdserverpb.Lease/LeaseGrant", etcdrpc.LeaseGrantResponse.FromString)
LEASE_REVOKE = Method("revocation", "/etcdserverpb.Lease/LeaseRevoke", etcdrpc.LeaseRevokeResponse.FromString)
LEASE_TIME_TO_LIVE = Method(
    "time to live", "/etcdserverpb.Lease/LeaseTimeToLive", etcdrpc.LeaseTimeToLiveResponse.FromString
)
AUTHENTICATE = Method("login", "/etcdserverpb.Auth/Authenticate", etcdrpc.AuthenticateResponse.FromString)
STATUS = Method("status", "/etcdserverpb.Maintenance/Status", etcdrpc.StatusResponse.FromString)
# Requests and answers of these two are streams.
KEEP_ALIVES = Method("keep-alives", "/etcdserverpb.Lease/LeaseKeepAlive", etcdrpc.LeaseKeepAliveResponse.FromString)
WATCHES = Method("watches", "/etcdserverpb.Watch/Watch", etcdrpc.WatchResponse.FromString)
