"""A password in a file: read at each login, and what is wrong with it is said without showing it."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from etcdleader import EtcdRefusedError, EtcdUnavailableError
from etcdleader._etcd.api import Header
from etcdleader._etcd.auth import Authenticator
from etcdleader._etcd.messages import AuthenticateRequest, AuthenticateResponse
from etcdleader._etcd.password_file import read_password
from etcdleader._etcd.rpcs import Rpc

pytestmark = pytest.mark.anyio
SECRET = "hunter2"


class Member:
    """A server that accepts each login, and keeps the passwords."""

    name = "member:1"
    last_received_at = -math.inf

    def __init__(self) -> None:
        self.passwords: list[str] = []

    async def call(self, rpc: Rpc[Any, Any], request: AuthenticateRequest, metadata: object, timeout: float) -> Any:
        self.passwords.append(request.password)
        return AuthenticateResponse(Header(1, 2, 3, 4), "token")


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "password"


async def test_the_file_is_read_at_each_login(path: Path) -> None:
    member = Member()
    authenticator = Authenticator("user", None, password_file=str(path))
    for password in ("first", "second"):
        write(path, f"{password}\n")
        await authenticator.metadata(member, 5)  # type: ignore[arg-type]
        await authenticator.metadata(member, 5)  # type: ignore[arg-type]
        authenticator.invalidate()
    assert member.passwords == ["first", "second"]


async def test_a_file_that_is_missing_at_a_later_login_is_read_at_the_next(path: Path) -> None:
    """A file may be replaced in two steps."""
    member = Member()
    authenticator = Authenticator("user", None, password_file=str(path))
    with pytest.raises(EtcdRefusedError, match="does not exist"):
        await authenticator.metadata(member, 5)  # type: ignore[arg-type]
    write(path, SECRET)
    await authenticator.metadata(member, 5)  # type: ignore[arg-type]
    assert member.passwords == [SECRET]


async def test_a_slow_file_neither_blocks_the_loop_nor_outlasts_the_timeout(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on a network file system whose server is down."""
    release, read = threading.Event(), threading.Event()

    def slow(path: str) -> str:
        release.wait(30)
        read.set()
        return SECRET

    monkeypatch.setattr("etcdleader._etcd.auth.read_password", slow)
    member: Any = Member()
    authenticator = Authenticator("user", None, password_file=str(path))
    with pytest.raises(EtcdUnavailableError, match=r"the login did not complete within 0\.1 s"):
        await authenticator.metadata(member, 0.1)
    assert not read.is_set(), "the loop went on meanwhile"
    release.set()
    assert member.passwords == []


@pytest.mark.parametrize(
    ("content", "password"),
    [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("\ufeffhunter2\n", "hunter2"),
        (" two words \n", " two words "),
        ("pässwörd", "pässwörd"),
    ],
)
def test_the_password_is_the_line_of_the_file(path: Path, content: str, password: str) -> None:
    """Editors and ``echo`` end the line. A space may belong to the password."""
    path.write_bytes(content.encode())
    assert read_password(str(path)) == password


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nhunter2\n", "must have the password only"),
        (b"hunter2\0", "must have the password only"),
        (b"hunter2\xff", "must have the password only"),
        (b"hunter2" * 1000, "must have the password only"),
    ],
)
def test_a_file_that_has_no_password_or_more_is_refused_and_not_shown(
    path: Path, content: bytes, reported: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(EtcdRefusedError) as caught:
        read_password(str(path))
    assert str(caught.value).startswith(f"password_file = {str(path)!r} {reported}")
    assert SECRET not in str(caught.value)


def test_what_is_no_file_is_refused(path: Path) -> None:
    """Reading a pipe would block."""
    path.mkdir()
    os.mkfifo(path / "pipe")
    for each in (path, path / "pipe"):
        with pytest.raises(EtcdRefusedError, match="is not a regular file"):
            read_password(str(each))


def test_a_link_to_a_file_is_followed(path: Path) -> None:
    """Kubernetes replaces a link when it changes a secret."""
    (path.parent / "data").write_text(SECRET)
    path.symlink_to("data")
    assert read_password(str(path)) == SECRET


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    path.write_text(SECRET)
    path.chmod(0)
    with pytest.raises(EtcdRefusedError, match="cannot be read: Permission denied"):
        read_password(str(path))


def test_a_file_that_cannot_be_opened_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(SECRET)

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EtcdRefusedError, match="cannot be read: Permission denied"):
        read_password(str(path))


def test_a_password_that_was_given_as_the_path_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EtcdRefusedError, match="must be a path, and not the password") as caught:
        read_password(SECRET)
    assert SECRET not in str(caught.value)
