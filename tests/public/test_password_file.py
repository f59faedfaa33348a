"""A password file in the settings: what is wrong with it is reported at the start, with all other problems."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from etcdleader import ConfigError, from_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("ETCDLEADER_"):
            monkeypatch.delenv(name)
    return tmp_path


def settings(path: object, **etcd: Any) -> dict[str, Any]:
    return {
        "leader": {"enabled": True, "election_key": "jobs"},
        "etcd": {"endpoints": "127.0.0.1:1", "user": "u", "password_file": path, **etcd},
    }


def problems(path: object, **etcd: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        from_settings(settings=settings(path, **etcd))
    assert SECRET not in str(caught.value)
    return caught.value.problems


def test_a_process_does_not_start_without_its_password(cwd: Path) -> None:
    (problem,) = problems(str(cwd / "missing"))
    assert problem.startswith(f"etcd.password_file = '{cwd}/missing' does not exist: put the password there [from ")
    (cwd / "empty").write_text("\n")
    (problem,) = problems("empty")
    assert problem == "etcd.password_file = 'empty' is empty: write the password into it [from the given mapping]"
    (problem,) = problems(SECRET)
    assert problem.startswith("etcd.password_file names no file")


def test_a_second_password_is_refused_with_the_origin_of_both(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("settings.toml").write_text(
        "[leader]\nenabled = true\n[etcd]\nendpoints = '127.0.0.1:1'\nuser = 'u'\npassword_file = '/p'\n"
    )
    monkeypatch.setenv("ETCDLEADER_ETCD__PASSWORD", SECRET)
    with pytest.raises(ConfigError) as caught:
        from_settings("jobs")
    assert caught.value.problems == (
        (
            "etcd.password together with password_file: set one of them "
            "[password from ETCDLEADER_ETCD__PASSWORD, password_file from settings.toml]"
        ),
    )


def test_the_content_is_in_no_log(cwd: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cwd / "password").write_text(SECRET)
    with caplog.at_level(logging.DEBUG):
        manager = from_settings(settings=settings("password"))
    assert "password_file='password'" in caplog.text
    assert SECRET not in caplog.text + repr(manager)


def test_with_election_off_the_file_is_not_needed() -> None:
    off = settings("/missing")
    off["leader"]["enabled"] = False
    from_settings(settings=off)
