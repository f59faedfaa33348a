"""The meaning of each gRPC status, and whether it is a reason to leave the endpoint."""

from __future__ import annotations

import pytest

from etcdleader._etcd.api import LeaseExistsError, LeaseNotFoundError
from etcdleader._etcd.error_mapping import (
    ClusterUnavailableError,
    InvalidAuthTokenError,
    TlsHandshakeError,
    error_from_cancel_reason,
    error_from_status,
)
from etcdleader._etcd.versions import known_defects
from etcdleader._grpc import RpcError, Status
from etcdleader.config import EtcdConfig
from etcdleader.errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from tests.client.endpoint_of import endpoint_of

ALL_STATUSES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
THIS_MEMBER = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}
WHOLE_CLUSTER = {"RESOURCE_EXHAUSTED", "DATA_LOSS"}


def means(code: str, text: str = "etcdserver: something") -> EtcdLeaderError:
    return error_from_status(code, text, "etcd-1:2379")


def leaves(error: EtcdLeaderError) -> bool:
    return error.retry_other_endpoint


@pytest.mark.parametrize("code", ALL_STATUSES)
def test_only_an_error_of_one_member_leaves_its_endpoint(code: str) -> None:
    error = means(code)
    expected = ClusterUnavailableError if code in WHOLE_CLUSTER else EtcdRefusedError
    assert type(error) is (EtcdUnavailableError if code in THIS_MEMBER else expected)
    assert leaves(error) is (code in THIS_MEMBER)


@pytest.mark.parametrize(
    ("code", "text", "kind", "left"),
    [
        # As etcd's rpctypes pairs them.
        ("UNAVAILABLE", "etcdserver: no leader", EtcdUnavailableError, True),
        ("UNAVAILABLE", "etcdserver: leader changed", EtcdUnavailableError, True),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to connection lost", EtcdUnavailableError, True),
        ("UNAVAILABLE", "etcdserver: server stopped", EtcdUnavailableError, True),
        ("UNAVAILABLE", "[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", TlsHandshakeError, True),
        ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner", EtcdUnavailableError, True),
        ("FAILED_PRECONDITION", "etcdserver: not capable", EtcdUnavailableError, True),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", ClusterUnavailableError, False),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", ClusterUnavailableError, False),
        ("DATA_LOSS", "etcdserver: corrupt cluster", ClusterUnavailableError, False),
        # As gRPC words them: in etcd, and in grpcio for the limits of a user's channel. The last one is a response, so the
        # request may have been applied.
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (3000018 vs. 2097152)", EtcdRefusedError, False),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (5006 vs. 1000)", EtcdRefusedError, False),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 1)", ClusterUnavailableError, False),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", InvalidAuthTokenError, False),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", InvalidAuthTokenError, False),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", InvalidAuthTokenError, False),
        ("NOT_FOUND", "etcdserver: requested lease not found", LeaseNotFoundError, False),
        ("FAILED_PRECONDITION", "etcdserver: lease already exists", LeaseExistsError, False),
        ("PERMISSION_DENIED", "etcdserver: permission denied", EtcdRefusedError, False),
        ("OUT_OF_RANGE", "etcdserver: too large lease TTL", EtcdRefusedError, False),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", EtcdRefusedError, False),
    ],
)
def test_each_etcd_error_maps_to_its_exception(code: str, text: str, kind: type[Exception], left: bool) -> None:
    error = means(code, text)
    assert type(error) is kind
    assert leaves(error) is left


def test_a_corrupt_cluster_is_named_and_may_be_retried() -> None:
    error = means("DATA_LOSS", "etcdserver: corrupt cluster")
    assert isinstance(error, EtcdUnavailableError)
    assert str(error) == (
        "DATA_LOSS: etcdserver: corrupt cluster; etcd's alarm CORRUPT refuses all writes until it is disarmed"
    )


@pytest.mark.parametrize("code", ALL_STATUSES)
@pytest.mark.parametrize("text", ["\x1b]0;title\x07 x", "a\rb", "a\nforged", "\x9b2J", "\u2028b", "\u202eb"])
def test_a_text_from_a_peer_cannot_control_a_terminal_or_forge_a_line(code: str, text: str) -> None:
    """Errors are logged and printed."""
    assert str(means(code, text)).isprintable()
    assert str(error_from_cancel_reason(text)).isprintable()
    assert str(going_away_error(code, text)).isprintable()
    assert str(RpcError(Status(code, text))).isprintable()


def going_away_error(code: str, text: str) -> EtcdLeaderError:
    """Return the error of a GOAWAY without an error code, whose data the peer has chosen."""
    return endpoint_of("one:1", EtcdConfig("one:1"))._error(Status(code, text, graceful=True))


def test_a_version_from_a_peer_cannot_control_a_terminal_or_forge_a_line() -> None:
    """It is in a warning."""
    reported = known_defects("3.5.0\x1b[2J\nforged")
    assert reported is not None
    assert reported.isprintable()
