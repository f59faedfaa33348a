"""The texts that determine an error's meaning: this etcd has them, and they have this meaning.

Some of these errors cannot be caused on one healthy member, so the texts are searched for in the program itself.
"""

from __future__ import annotations

import pytest

from etcdleader._etcd.api import LeaseExistsError, LeaseNotFoundError
from etcdleader._etcd.error_mapping import InvalidAuthTokenError, error_from_cancel_reason, error_from_status
from etcdleader.errors import EtcdRefusedError, EtcdUnavailableError
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.etcd

TEXTS = {
    # etcd's name of the error, or ours for one of its gRPC library: the statuses it has had, the text, and its meaning.
    "ErrGRPCLeaseNotFound": (["NOT_FOUND"], "etcdserver: requested lease not found", LeaseNotFoundError),
    "ErrGRPCLeaseExist": (["FAILED_PRECONDITION"], "etcdserver: lease already exists", LeaseExistsError),
    "ErrGRPCInvalidAuthToken": (["UNAUTHENTICATED"], "etcdserver: invalid auth token", InvalidAuthTokenError),
    "ErrGRPCAuthOldRevision": (["INVALID_ARGUMENT"], "etcdserver: revision of auth store is old", InvalidAuthTokenError),
    "auth.ErrAuthOldRevision": (["UNKNOWN"], "auth: revision in header is old", InvalidAuthTokenError),
    "ErrGRPCUserEmpty": (["INVALID_ARGUMENT"], "etcdserver: user name is empty", InvalidAuthTokenError),
    "ErrGRPCPermissionDenied": (["PERMISSION_DENIED"], "etcdserver: permission denied", EtcdRefusedError),
    "ErrGRPCNotSupportedForLearner": (
        ["FAILED_PRECONDITION", "UNAVAILABLE"], "etcdserver: rpc not supported for learner", EtcdUnavailableError,
    ),
    "ErrGRPCNotCapable": (["FAILED_PRECONDITION", "UNAVAILABLE"], "etcdserver: not capable", EtcdUnavailableError),
    "gRPC's limit": (["RESOURCE_EXHAUSTED"], "grpc: received message larger than max (", EtcdRefusedError),
}  # fmt: skip
MISSING = {("3.5.1", "ErrGRPCAuthOldRevision")}
"""Texts that a version on the list does not have yet."""
OF_A_WATCH = ("ErrGRPCInvalidAuthToken", "ErrGRPCAuthOldRevision", "ErrGRPCUserEmpty", "ErrGRPCPermissionDenied")


@pytest.fixture(scope="module")
def program(server: EtcdServer) -> bytes:
    assert server._etcd is not None
    return server._etcd.read_bytes()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_determines_an_errors_meaning_is_in_etcds_program(
    name: str, program: bytes, server: EtcdServer
) -> None:
    codes, text, kind = TEXTS[name]
    assert (text.encode() in program) != ((server.version, name) in MISSING)
    for code in codes:
        assert type(error_from_status(code, text, "etcd-1:2379")) is kind


@pytest.mark.parametrize("name", OF_A_WATCH)
def test_a_watch_is_cancelled_for_the_reason_that_its_text_names(name: str) -> None:
    """etcd sends no status with it."""
    _, text, kind = TEXTS[name]
    assert type(error_from_cancel_reason(text)) is kind
