"""gRPC's errors in this library's words. Pure: told a code and etcd's text."""

from __future__ import annotations

from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import LeaseExistsError, LeaseNotFoundError

__all__ = ("AnotherClusterError", "StaleTokenError", "translated", "watch_cancelled")

_LEASE_GONE = "requested lease not found"
_LEASE_EXISTS = "lease already exists"
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "auth: revision in header is old")
_NO_USER = "user name is empty"
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

_RETRYABLE = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"}
)
_LEARNER = "not supported for learner"


class StaleTokenError(EtcdRefusedError):
    """The token of a login is not taken any more; a new login may help."""


class NoTlsError(EtcdRefusedError):
    """The two sides do not agree on TLS: certificates, names, or whether there is any."""

    _elsewhere = True


class NoLoginError(EtcdRefusedError):
    """User and password were not taken."""

    def __init__(self, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self._elsewhere = elsewhere


class AnotherClusterError(EtcdRefusedError):
    """An endpoint belongs to another cluster than the others."""

    _elsewhere = True


class OverloadedError(EtcdUnavailableError):
    """No space, or too many requests. Both pass, and both may follow the very request that was applied."""

    _elsewhere = False


def translated(code: str, details: str | None, endpoint: str) -> EtcdLeaderError:
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
    if code == "RESOURCE_EXHAUSTED":
        return OverloadedError(f"{code}: {text}")
    if code in _RETRYABLE or _LEARNER in lower:
        # A handshake that fails looks like a server that is down.
        if code == "UNAVAILABLE" and any(words in lower for words in _TLS):
            reason = next((f"{meaning}: " for words, meaning in _TLS_REASONS.items() if words in lower), "")
            return NoTlsError(f"no TLS connection: {reason}{text}")
        if code == "DEADLINE_EXCEEDED":
            return EtcdUnavailableError(f"{endpoint} did not answer in time")
        return EtcdUnavailableError(f"{endpoint}: {code}: {text}")
    return EtcdRefusedError(f"{code}: {text}")


def watch_cancelled(reason: str) -> EtcdLeaderError:
    """Why etcd cancelled a watch; on this stream there are no codes."""
    text = _shortened(reason or "etcd cancelled the watch")
    lower = text.lower()
    if (stale := _stale_token(text)) is not None:
        return stale
    if "permission denied" in lower or "auth" in lower:
        return EtcdRefusedError(text)
    return EtcdUnavailableError(text)


def _stale_token(text: str) -> StaleTokenError | None:
    lower = text.lower()
    if _NO_USER in lower:
        return StaleTokenError(f"etcd wants a login: set user and password, or cert and key of a user ({text})")
    return StaleTokenError(text) if any(words in lower for words in _STALE_TOKEN) else None


def _shortened(text: str) -> str:
    first = next(iter(text.strip().splitlines()), "no reason was given")
    return first if len(first) <= 300 else first[:297] + "..."
