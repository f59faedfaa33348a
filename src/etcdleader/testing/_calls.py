"""Requests to a fake etcd, as hooks receive them and tests count them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .._etcd.api import Range, Txn
from .._etcd.messages import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    RaftTermRequest,
    StatusRequest,
    WatchCreateRequest,
    WatchProgressRequest,
)

CallKind: TypeAlias = Literal[
    "lease_grant",
    "lease_revoke",
    "lease_keep_alive",
    "lease_time_to_live",
    "member_raft_term",
    "member_status",
    "range",
    "txn",
    "watch",
    "watch_progress",
    "report_endpoint_failure",
]
"""The names of the port's calls. A transaction that is one read without a condition is sent as a ``range``."""

_KINDS: dict[type, CallKind] = {
    LeaseGrantRequest: "lease_grant",
    LeaseRevokeRequest: "lease_revoke",
    LeaseKeepAliveRequest: "lease_keep_alive",
    LeaseTimeToLiveRequest: "lease_time_to_live",
    RaftTermRequest: "member_raft_term",
    StatusRequest: "member_status",
    Range: "range",
    Txn: "txn",
    WatchCreateRequest: "watch",
    WatchProgressRequest: "watch_progress",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as hooks receive it. The creation of a watch has no ``"after"``.

    Attributes:
        client: The name of the client that sent it.
        kind: The name of the port's call.
        stage: ``"before"``: etcd has received it and done nothing yet. ``"after"``: etcd has done it and has not
            responded yet.
        arguments: The port's arguments, by position. Each lease of a keep-alive is a separate call.
    """

    client: str
    kind: CallKind
    stage: Literal["before", "after"]
    arguments: tuple[Any, ...]


Hook: TypeAlias = Callable[[Call], Awaitable[None] | None]


def kind_of(request: Any) -> CallKind:
    """Return the kind of a request."""
    return _KINDS[type(request)]


def arguments_of(request: Any) -> tuple[Any, ...]:
    """Return the arguments that the port received for this request."""
    if isinstance(request, Range):
        return (request,)
    if isinstance(request, Txn | WatchCreateRequest):
        return tuple(request)[:3]
    if isinstance(request, LeaseTimeToLiveRequest):
        return (request.lease_id,)
    return tuple(request)
