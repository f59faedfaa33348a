"""Requests and responses of etcd's RPCs as values, where the port has none of its own.

The client and its streams deal in these and in the port's values only. ``codec`` makes bytes of them, at the edge to
the network; so whatever carries values can be the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .api import Event, Header

ALL_WATCHES = -1
"""The watch id that etcd names in the response to a progress request."""


class LeaseGrantRequest(NamedTuple):
    """Grant a lease of ``ttl`` seconds, under this id."""

    ttl: int
    lease_id: int


class LeaseRevokeRequest(NamedTuple):
    """Revoke a lease."""

    lease_id: int


class LeaseRevokeResponse(NamedTuple):
    """The lease was revoked."""

    header: Header


class LeaseKeepAliveRequest(NamedTuple):
    """Renew a lease."""

    lease_id: int


class LeaseTimeToLiveRequest(NamedTuple):
    """Report what is left of a lease, and the keys on it if ``keys``."""

    lease_id: int
    keys: bool


class StatusRequest(NamedTuple):
    """Report on the member itself."""


class RaftTermRequest(NamedTuple):
    """Count a key by a serializable read, for the header of the response."""

    key: bytes


class RaftTermResponse(NamedTuple):
    """What the member reports of itself."""

    header: Header


class WatchCreateRequest(NamedTuple):
    """Create a watch under a number of our own, above 0."""

    key: bytes
    range_end: bytes
    start_revision: int
    watch_id: int


class WatchCancelRequest(NamedTuple):
    """Cancel a watch."""

    watch_id: int


class WatchProgressRequest(NamedTuple):
    """Report how far the watches of the stream are, as soon as all of them are there."""


class WatchResponse(NamedTuple):
    """One message of the watch stream.

    Attributes:
        header: Its revision may run ahead of the events while etcd is catching up.
        watch_id: The watch that it is for; ``ALL_WATCHES`` in the response to a progress request. It means nothing in the
            refusal of a creation.
        created: It responds to a creation; the first one that is not answered yet.
        canceled: The watch is over, or its creation was refused.
        compact_revision: Set if the revision to go on from was compacted.
        cancel_reason: etcd's text.
        events: In order of revision.
    """

    header: Header
    watch_id: int
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class AuthenticateRequest:
    """Log in."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthenticateResponse:
    """The token of a login."""

    header: Header
    token: str = field(repr=False)
