"""Map gRPC's status codes and etcd's error texts to this library's errors. Pure.

A status is about one of three. It decides whether the endpoint is left, which breaks every stream of the connection.

================== ===================================== ======================================= ===============
About              Status, and etcd's text where it      What etcd or gRPC says with it          The endpoint is
                   matters
================== ===================================== ======================================= ===============
this member        UNAVAILABLE                           no leader, timed out, stopped, no TLS   left
this member        DEADLINE_EXCEEDED, CANCELLED, ABORTED no response in time                     left
this member        INTERNAL, UNKNOWN, UNIMPLEMENTED      a fault of the member or of a proxy     left
this member        "not supported for learner"           it does not vote yet                    left
this member        "not capable"                         it has just started                     left
the whole cluster  RESOURCE_EXHAUSTED                    the alarm NOSPACE, too many requests    kept
the whole cluster  DATA_LOSS                             the alarm CORRUPT                       kept
the request        UNAUTHENTICATED, "revision of auth    the token is stale: log in again        kept
                   store is old", "user name is empty"
the request        "lease not found", "lease already     an answer rather than an error          kept
                   exists"
the request        all others, as PERMISSION_DENIED,     it is refused, and would be by all      kept
                   INVALID_ARGUMENT and OUT_OF_RANGE
================== ===================================== ======================================= ===============

"Too many requests" comes from one member, which applies too slowly. It counts as the cluster's: with all streams moved,
the others would be the next.
"""

from __future__ import annotations

from .._values.printable import escape_control_characters
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import LeaseExistsError, LeaseNotFoundError

# Parts of etcd's texts, beside the names that these have in its package rpctypes. tests/contract/test_error_texts.py looks
# for them in each version of etcd.
_LEASE_GONE = "requested lease not found"  # ErrGRPCLeaseNotFound
_LEASE_EXISTS = "lease already exists"  # ErrGRPCLeaseExist
_STALE_TOKEN = (
    "invalid auth token",  # ErrGRPCInvalidAuthToken
    "revision of auth store is old",  # ErrGRPCAuthOldRevision
    "auth: revision in header is old",  # ErrAuthOldRevision of etcd's package auth, which says it of a watch
)
_NO_USER = "user name is empty"  # ErrGRPCUserEmpty
_NOT_ALLOWED = "permission denied"  # ErrGRPCPermissionDenied
_NOT_READY = (
    "not supported for learner",  # ErrGRPCNotSupportedForLearner
    "etcdserver: not capable",  # ErrGRPCNotCapable
)
_TLS = ("[ssl:", "certificate", "handshake", "ssl_error", "tls:", "verification check failed", "security handshaker")
_UNKNOWN_AUTHORITY = "the member's certificate is of an authority that ca_cert does not hold"
_TLS_REASONS = {
    "hostname verification": "the member's certificate is for another name",
    "peer name": "the member's certificate is for another name",
    "has expired": "the member's certificate has expired",
    "local issuer": _UNKNOWN_AUTHORITY,
    "self-signed": _UNKNOWN_AUTHORITY,
    "self signed": _UNKNOWN_AUTHORITY,
    "verify_failed": "the member's certificate was refused",
    "alert": "the member refused our certificate, or that there is none: see cert and key",
    "wrong_version_number": "the member does not speak TLS",
}

_THIS_MEMBER = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}
)
_WHOLE_CLUSTER = {
    "RESOURCE_EXHAUSTED": "",
    "DATA_LOSS": "; etcd's alarm CORRUPT refuses all writes until it is disarmed",
}
"""The statuses, and what each text lacks."""


class InvalidAuthTokenError(EtcdRefusedError):
    """The token of a login is not taken any more; a new login may help."""


class GoingAwayError(EtcdUnavailableError):
    """The member, or a proxy, closes the connection without an error, as before a restart or after a time of its own.

    It is no trouble unless the next connection fails.
    """


class NoTlsError(EtcdRefusedError):
    """The two sides do not agree on TLS: certificates, names, or whether there is any."""

    retry_other_endpoint = True


class AuthenticationFailedError(EtcdRefusedError):
    """User and password were not taken."""

    def __init__(self, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.retry_other_endpoint = elsewhere


class ClusterIdMismatchError(EtcdRefusedError):
    """An endpoint belongs to another cluster than the others."""

    retry_other_endpoint = True


class ClusterUnavailableError(EtcdUnavailableError):
    """No space, too many requests, or corrupt data: every member refuses alike.

    These pass, and they may follow the very request that was applied.
    """

    retry_other_endpoint = False


def error_from_status(code: str, details: str | None, endpoint: str) -> EtcdLeaderError:
    """What a failed call, or a stream that broke, means for who waits for it.

    Args:
        code: The name of gRPC's status code.
        details: What goes with it.
        endpoint: Who was asked.
    """
    text = _shortened(details or "no reason was given")
    lower = text.lower()
    if _LEASE_GONE in lower:
        return LeaseNotFoundError(text)
    if _LEASE_EXISTS in lower:
        return LeaseExistsError(text)
    if (stale := _stale_token(text)) is not None:
        return stale
    if (lacking := _WHOLE_CLUSTER.get(code)) is not None:
        return ClusterUnavailableError(f"{code}: {text}{lacking}")
    if code in _THIS_MEMBER or any(words in lower for words in _NOT_READY):
        # A handshake that fails looks like a server that is down.
        if code == "UNAVAILABLE" and any(words in lower for words in _TLS):
            reason = next((f"{meaning}: " for words, meaning in _TLS_REASONS.items() if words in lower), "")
            return NoTlsError(f"no TLS connection: {reason}{text}")
        if code == "DEADLINE_EXCEEDED":
            return EtcdUnavailableError(f"{endpoint} did not answer in time")
        return EtcdUnavailableError(f"{endpoint}: {code}: {text}")
    return EtcdRefusedError(f"{code}: {text}")


def going_away(details: str, endpoint: str) -> GoingAwayError:
    """What it means that the peer closes the connection without an error. It may have given a reason."""
    return GoingAwayError(f"{endpoint}: {_shortened(details)}")


def error_from_cancel_reason(reason: str) -> EtcdLeaderError:
    """Why etcd cancelled a watch; on this stream there are no codes."""
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
        return InvalidAuthTokenError(f"etcd wants a login: set user and password, or cert and key of a user ({text})")
    return InvalidAuthTokenError(text) if any(words in lower for words in _STALE_TOKEN) else None


def _shortened(text: str) -> str:
    first = escape_control_characters(next(iter(text.strip().splitlines()), "no reason was given"))
    return first if len(first) <= 300 else first[:297] + "..."
