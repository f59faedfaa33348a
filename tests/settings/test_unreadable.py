"""Settings that cannot be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from etcdleader._settings.sources import read_settings
from tests.settings.reading import complaints, etcd, leader, write


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"[leader", "at end of document"),
        (b"[leader]\nlease = 1m\n", "line 2"),
        (b"\xff\xfe", "utf-8"),
        (b"\xef\xbb\xbf[leader]\n", "byte order mark"),
        (b"[leader]\nid = 'a'\nid = 'b'\n", "line 3"),
    ],
)
def test_a_file_that_is_no_toml_is_named(content: bytes, reported: str) -> None:
    """dynaconf reports line and column, but not the file."""
    Path("config").mkdir()
    Path("config/.secrets.toml").write_bytes(content)
    write(settings="[leader]\nlease = 5\n", _secrets="x")
    first, second = complaints()
    assert first.startswith(".secrets.toml: ")
    assert second.startswith("config/.secrets.toml: ")
    assert reported in second
    assert read_settings(None, "leader").leader.values == {"lease": 5}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named() -> None:
    """A secrets file often belongs to another user."""
    write(_secrets="")
    Path(".secrets.toml").chmod(0)
    assert complaints() == [".secrets.toml: cannot be read: Permission denied"]


def test_a_file_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """dynaconf would warn, and go on without it."""
    write(_secrets="")

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert complaints() == [".secrets.toml: cannot be read: Permission denied"]


@pytest.mark.parametrize("name", ["settings.toml", ".secrets.toml", "config/settings.toml", ".env"])
def test_a_file_that_every_user_may_write_is_refused(name: str) -> None:
    """Another user could have this process lead, or send its password elsewhere."""
    Path("config").mkdir()
    path = Path(name)
    path.write_text("ETCDLEADER_LEADER__ID=x" if name == ".env" else "[leader]\nid = 'x'\n")
    path.chmod(0o646)
    (complaint,) = complaints()
    assert complaint.startswith(f"{name}: every user may write it")
    assert complaint.endswith(f"chmod o-w {name}")
    assert read_settings(None, "leader").leader.values == {}
    path.chmod(0o664)
    assert leader() == {"id": "x"}


def test_a_named_file_that_every_user_may_write_is_refused() -> None:
    """Naming it does not keep others from writing it."""
    write(other="[leader]\nid = 'x'\n")
    Path("other.toml").chmod(0o666)
    (complaint,) = complaints("other.toml")
    assert complaint.startswith("other.toml: every user may write it")


@pytest.mark.parametrize(
    ("owner", "folder_owner", "folder_mode", "refused"),
    [
        ("stranger", "root", 0o1777, True),
        ("stranger", "stranger", 0o777, True),
        ("stranger", "root", 0o2775, True),
        ("stranger", "us", 0o775, True),
        ("stranger", "stranger", 0o775, False),
        ("stranger", "root", 0o755, False),
        ("us", "root", 0o1777, False),
        ("root", "root", 0o1777, False),
    ],
)
def test_a_file_of_another_user_in_a_shared_directory_is_refused(
    owner: str, folder_owner: str, folder_mode: int, *, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no password. It has endpoints, to which the password of the environment would go."""
    write(settings="[etcd]\nendpoints = ['attacker:1']\n")
    users = {"root": 0, "us": 1000, "stranger": 2000}
    monkeypatch.setattr(os, "geteuid", lambda: users["us"])
    real = Path.stat

    def status(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(real(path, follow_symlinks=follow_symlinks))
        if path == Path():
            found[stat.ST_MODE], found[stat.ST_UID] = stat.S_IFDIR | folder_mode, users[folder_owner]
        else:
            found[stat.ST_UID] = users[owner]
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", status)
    if refused:
        (complaint,) = complaints()
        assert complaint.startswith("settings.toml: it belongs to user 2000 and lies in a directory that other users")
    else:
        assert etcd() == {"endpoints": ["attacker:1"]}
    assert etcd("settings.toml") == {"endpoints": ["attacker:1"]}


@pytest.mark.parametrize(("mode", "refused"), [(0o1777, True), (0o755, False)])
def test_a_folder_of_another_user_in_a_shared_directory_is_refused_with_its_files(
    monkeypatch: pytest.MonkeyPatch, mode: int, *, refused: bool
) -> None:
    """It belongs to the stranger, so no other user may write it."""
    write(config__settings="[etcd]\nendpoints = ['attacker:1']\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    real = Path.stat

    def status(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(real(path, follow_symlinks=follow_symlinks))
        found[stat.ST_UID] = 0 if path == Path() else 2000
        if path == Path():
            found[stat.ST_MODE] = stat.S_IFDIR | mode
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", status)
    if refused:
        (complaint,) = complaints()
        assert complaint.startswith(
            "config/settings.toml: its directory config belongs to user 2000 and lies in a directory"
        )
    else:
        assert etcd() == {"endpoints": ["attacker:1"]}
    assert etcd("config/settings.toml") == {"endpoints": ["attacker:1"]}


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        ("nowhere.toml", "nowhere.toml: there is no such file"),
        (".", ".: it is not a regular file"),
        ("", ".: it is not a regular file"),
        ("/dev/zero", "/dev/zero: it is not a regular file"),
        ("settings.yaml", "settings.yaml: is not a .toml file"),
        ("settings.toml/x", "settings.toml/x: there is no such file"),
    ],
)
def test_a_path_that_was_given_must_be_a_toml_file(path: str, reported: str) -> None:
    """Without it the process would go on with the defaults."""
    write(settings="")
    Path("settings.yaml").write_text("")
    (complaint,) = complaints(path)
    assert complaint.startswith(reported)


def test_the_null_device_has_no_settings() -> None:
    """A command with ``--endpoint`` may need none, in a directory with the settings of another program."""
    write(settings="[default.leader]\nenabled = true\n[etcd]\npassword = 'x'\n")
    assert complaints(os.devnull) == []
    assert (leader(os.devnull), etcd(os.devnull)) == ({}, {})
    assert read_settings(os.devnull, "leader").nowhere("nothing") == "nothing; looked in /dev/null"


def test_a_path_may_have_commas() -> None:
    """dynaconf would take it for two."""
    Path("a.toml,b.toml").write_text("[leader]\nid = 'x'\n")
    assert leader("a.toml,b.toml") == {"id": "x"}


def test_nowhere_lists_every_place(cwd: Path) -> None:
    """So that one sees which was meant."""
    write(config__settings="")
    reported = read_settings(None, "leader").nowhere("nothing")
    for place in ("settings.toml (not there)", ".secrets.toml (not there)", "config/settings.toml,", ".env", str(cwd)):
        assert place in reported
