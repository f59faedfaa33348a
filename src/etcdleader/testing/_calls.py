"""Requests to a fake etcd, as hooks receive them and tests count them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .._etcd import messages
from .._etcd.api import Range, Txn

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
    messages.LeaseGrantRequest: "lease_grant",
    messages.LeaseRevokeRequest: "lease_revoke",
    messages.LeaseKeepAliveRequest: "lease_keep_alive",
    messages.LeaseTimeToLiveRequest: "lease_time_to_live",
    messages.RaftTermRequest: "member_raft_term",
    messages.StatusRequest: "member_status",
    Range: "range",
    Txn: "txn",
    messages.WatchCreateRequest: "watch",
    messages.WatchProgressRequest: "watch_progress",
}

_POSITIONAL = {messages.WatchCreateRequest: 3, messages.LeaseTimeToLiveRequest: 1}
"""The requests whose later fields are not positional arguments of the port, and the number of those that are."""


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
    return (request,) if isinstance(request, Range) else tuple(request)[: _POSITIONAL.get(type(request))]
