"""The RPCs' requests and responses as values, where the port does not already define them.

The client and its streams use only these values and the port's. ``codec`` encodes them as bytes next to the network. So
any object that carries values can replace the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .api import Header, WatchEvent

ALL_WATCHES = -1
"""The watch id that etcd names in the response to a progress request."""


class LeaseGrantRequest(NamedTuple):
    """A request to grant a lease of ``ttl`` seconds under the given id."""

    ttl: int
    lease_id: int


class LeaseRevokeRequest(NamedTuple):
    """A request to revoke a lease."""

    lease_id: int


class LeaseRevokeResponse(NamedTuple):
    """The response to the revocation of a lease."""

    header: Header


class LeaseKeepAliveRequest(NamedTuple):
    """A request to renew a lease."""

    lease_id: int


class LeaseTimeToLiveRequest(NamedTuple):
    """A request for the remaining time of a lease, and for its keys if ``keys`` is set."""

    lease_id: int
    keys: bool


class StatusRequest(NamedTuple):
    """A request for the member's status."""


class RaftTermRequest(NamedTuple):
    """A request to count a key by a serializable read, made for the header of the response."""

    key: bytes


class RaftTermResponse(NamedTuple):
    """The response to a ``RaftTermRequest``. Its header has the member's raft term."""

    header: Header


class WatchCreateRequest(NamedTuple):
    """A request to create a watch under an id that the client chooses, above 0."""

    key: bytes
    range_end: bytes
    start_revision: int
    watch_id: int


class WatchCancelRequest(NamedTuple):
    """A request to cancel a watch."""

    watch_id: int


class WatchProgressRequest(NamedTuple):
    """A request for the progress of the stream's watches. etcd responds as soon as all of them have caught up."""


class WatchResponse(NamedTuple):
    """One message of the watch stream.

    Attributes:
        header: The header. Its revision may be ahead of the events while etcd is catching up.
        watch_id: The watch; ``ALL_WATCHES`` in the response to a progress request. It has no meaning if etcd refuses to
            create a watch.
        created: Whether this is the response to a creation, the oldest one without a response.
        canceled: Whether the watch has ended, or its creation was refused.
        compact_revision: Set if the revision to continue from was compacted.
        cancel_reason: etcd's text.
        events: The events, in order of revision.
    """

    header: Header
    watch_id: int
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: Sequence[WatchEvent] = ()


@dataclass(frozen=True, slots=True)
class AuthenticateRequest:
    """A request to log in."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthenticateResponse:
    """The response to a login: its token."""

    header: Header
    token: str = field(repr=False)
