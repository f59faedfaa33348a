"""Map gRPC's status codes and etcd's error texts to this library's errors. Pure.

A status concerns the member, the whole cluster, or the request. Only a status of the member makes the client leave the
endpoint, because leaving it breaks every stream of the connection. Where the status alone does not decide, etcd's text
does; it is quoted here.

The member:

- UNAVAILABLE: no leader, timed out, stopped, or no TLS.
- DEADLINE_EXCEEDED, CANCELLED, ABORTED: no response in time.
- INTERNAL, UNKNOWN, UNIMPLEMENTED: a fault of the member or of a proxy.
- The text "not supported for learner": the member does not vote yet.
- The text "not capable": the member has just started.

The whole cluster:

- RESOURCE_EXHAUSTED: the alarm NOSPACE, or too many requests. For one text, see below.
- DATA_LOSS: the alarm CORRUPT.

The request:

- The texts "invalid auth token" (UNAUTHENTICATED), "revision of auth store is old" and "user name is empty": the token
  is stale. The client logs in again.
- The text "message larger than max" of a request: a larger one than gRPC lets through, in etcd or in a user's channel.
- The texts "lease not found" and "lease already exists": a result rather than a failure.
- All others, such as PERMISSION_DENIED, INVALID_ARGUMENT and OUT_OF_RANGE: every member would refuse the request.

"Too many requests" comes from one member, which applies too slowly. It counts as the cluster's: if all streams moved,
the next member would be overloaded too.
"""

from __future__ import annotations

from .._values.printable import escape_control_characters
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import LeaseExistsError, LeaseNotFoundError

# Substrings of the error texts in etcd. The comments name their constants in its package rpctypes.
# tests/contract/test_error_texts.py checks that each version of etcd has these texts.
_LEASE_GONE = "requested lease not found"  # ErrGRPCLeaseNotFound
_LEASE_EXISTS = "lease already exists"  # ErrGRPCLeaseExist
_STALE_TOKEN = (
    "invalid auth token",  # ErrGRPCInvalidAuthToken
    "revision of auth store is old",  # ErrGRPCAuthOldRevision
    "auth: revision in header is old",  # ErrAuthOldRevision in etcd's package auth, sent for a watch
)
_NO_USER = "user name is empty"  # ErrGRPCUserEmpty
_NOT_ALLOWED = "permission denied"  # ErrGRPCPermissionDenied
_REQUEST_TOO_LARGE = (
    # From the gRPC library of etcd, for a request above 2 MiB. It has the status of "too many requests".
    "grpc: received message larger than max",
    # From grpcio, if the user's channel has a limit. "CLIENT: Received ..." concerns a response.
    "client: sent message larger than max",
)
_NOT_READY = (
    "not supported for learner",  # ErrGRPCNotSupportedForLearner
    "etcdserver: not capable",  # ErrGRPCNotCapable
)
_TLS = ("[ssl:", "certificate", "handshake", "ssl_error", "tls:", "verification check failed", "security handshaker")
_UNKNOWN_AUTHORITY = "the member's certificate comes from an authority that ca_cert does not contain"
_TLS_REASONS = {
    "hostname verification": "the member's certificate is for another name",
    "peer name": "the member's certificate is for another name",
    "has expired": "the member's certificate has expired",
    "local issuer": _UNKNOWN_AUTHORITY,
    "self-signed": _UNKNOWN_AUTHORITY,
    "self signed": _UNKNOWN_AUTHORITY,
    "verify_failed": "the member's certificate was refused",
    "alert": "the member refused our certificate, or requires one: see cert and key",
    "wrong_version_number": "the member does not speak TLS",
}

_THIS_MEMBER = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}
)
_WHOLE_CLUSTER = {
    "RESOURCE_EXHAUSTED": "",
    "DATA_LOSS": "; etcd's alarm CORRUPT refuses all writes until it is disarmed",
}
"""The statuses, each with the explanation to append to etcd's text."""


class InvalidAuthTokenError(EtcdRefusedError):
    """The error of a call whose token etcd no longer accepts. A new login may help."""


class GoingAwayError(EtcdUnavailableError):
    """The error of a connection that the member or a proxy closes gracefully.

    They do so before a restart, for example, or at the end of a maximum connection age. It is harmless unless the next
    connection fails.
    """


class TlsHandshakeError(EtcdRefusedError):
    """The error of a TLS mismatch: of certificates, of names, or because only one side uses TLS."""

    retry_other_endpoint = True


class AuthenticationFailedError(EtcdRefusedError):
    """The error of a login that etcd refused."""

    def __init__(self, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.retry_other_endpoint = elsewhere


class ClusterIdMismatchError(EtcdRefusedError):
    """The error of an endpoint that belongs to a different cluster than the others."""

    retry_other_endpoint = True


class ClusterUnavailableError(EtcdUnavailableError):
    """The error of a cluster-wide refusal: no space, too many requests, or corrupt data. Every member refuses likewise.

    The condition is temporary. The error may even be the response to a request that was applied.
    """

    retry_other_endpoint = False


def error_from_status(code: str, details: str | None, endpoint: str) -> EtcdLeaderError:
    """Map the status of a failed call or a broken stream to an error.

    Args:
        code: The name of the gRPC status code.
        details: The status message.
        endpoint: The member's name, for the text.
    """
    text = _shortened(details or "no reason was given")
    lower = text.lower()
    if _LEASE_GONE in lower:
        return LeaseNotFoundError(text)
    if _LEASE_EXISTS in lower:
        return LeaseExistsError(text)
    if (stale := _stale_token(text)) is not None:
        return stale
    if any(words in lower for words in _REQUEST_TOO_LARGE):
        return EtcdRefusedError(f"{code}: {text}")
    if (lacking := _WHOLE_CLUSTER.get(code)) is not None:
        return ClusterUnavailableError(f"{code}: {text}{lacking}")
    if code in _THIS_MEMBER or any(words in lower for words in _NOT_READY):
        # gRPC reports a failed handshake like a server that is down.
        if code == "UNAVAILABLE" and any(words in lower for words in _TLS):
            reason = next((f"{meaning}: " for words, meaning in _TLS_REASONS.items() if words in lower), "")
            return TlsHandshakeError(f"no TLS connection: {reason}{text}")
        if code == "DEADLINE_EXCEEDED":
            return EtcdUnavailableError(f"{endpoint} did not respond in time")
        return EtcdUnavailableError(f"{endpoint}: {code}: {text}")
    return EtcdRefusedError(f"{code}: {text}")


def going_away(details: str, endpoint: str) -> GoingAwayError:
    """Return the error for a connection that the peer closed gracefully. ``details`` is the peer's reason, if any."""
    return GoingAwayError(f"{endpoint}: {_shortened(details)}")


def error_from_cancel_reason(reason: str) -> EtcdLeaderError:
    """Map a watch's cancel_reason to an error. The watch stream has no status codes."""
    text = _shortened(reason or "etcd cancelled the watch")
    lower = text.lower()
    if (stale := _stale_token(text)) is not None:
        return stale
    if _NOT_ALLOWED in lower or "auth" in lower:
        return EtcdRefusedError(text)
    return EtcdUnavailableError(text)


def _stale_token(text: str) -> InvalidAuthTokenError | None:
    lower = text.lower()
    if _NO_USER in lower:
        return InvalidAuthTokenError(
            f"etcd requires a login: set user and password, or cert and key of a user ({text})"
        )
    return InvalidAuthTokenError(text) if any(words in lower for words in _STALE_TOKEN) else None


def _shortened(text: str) -> str:
    first = escape_control_characters(next(iter(text.strip().splitlines()), "no reason was given"))
    return first if len(first) <= 300 else first[:297] + "..."
