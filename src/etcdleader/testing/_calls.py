"""Requests to a fake etcd, as tests see and count them."""

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
"""The port's calls, by their names. A transaction that is one read without a condition travels as a ``range``."""

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
    """A request, as hooks see it. The creation of a watch has no ``"after"``.

    Attributes:
        client: The name of the client that sent it.
        kind: Which call.
        stage: ``"before"``: it has reached etcd and nothing is done yet. ``"after"``: done, the answer not yet sent.
        arguments: As the port has them, by position. Each lease of a keep-alive is a call of its own.
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
    """Return what the port was given for this request."""
    if isinstance(request, Range):
        return (request,)
    if isinstance(request, Txn | WatchCreateRequest):
        return tuple(request)[:3]
    if isinstance(request, LeaseTimeToLiveRequest):
        return (request.lease_id,)
    return tuple(request)
