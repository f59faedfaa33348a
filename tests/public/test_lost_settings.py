"""Settings that are lost on the way: no process leads, and no password is sent, by accident."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._managers.etcd import EtcdLeaderManager
from etcdleader.errors import ConfigError

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("ETCDLEADER_"):
            monkeypatch.delenv(name)
    return tmp_path


def problems(*args: Any, **kwargs: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        must(*args, **kwargs)
    assert SECRET not in str(caught.value)
    return caught.value.problems


def test_a_removed_working_directory_leaves_the_variables(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is started in a folder which a deployment removes."""
    (cwd / "gone").mkdir()
    monkeypatch.chdir(cwd / "gone")
    (cwd / "gone").rmdir()
    (problem,) = problems("jobs")
    assert problem.startswith("there is no [leader] section; looked in ")
    assert problem.endswith("(working directory: it was removed)")
    for name, value in (("LEADER__ENABLED", "true"), ("ETCD__ENDPOINTS", "a:1")):
        monkeypatch.setenv(f"ETCDLEADER_{name}", value)
    assert isinstance(must("jobs"), EtcdLeaderManager)
