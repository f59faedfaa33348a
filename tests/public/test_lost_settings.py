"""Settings that are lost on the way: no process leads, and no password is sent, by accident."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dynaconf import Dynaconf

from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._managers.etcd_manager import EtcdLeaderManager
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


@pytest.mark.parametrize("etcd", [{}, {"user": "u", "password": SECRET}, {"endpoints": None, "ca_cert": "ca.pem"}])
def test_a_candidate_whose_endpoints_are_lost_does_not_guess_them(etcd: dict[str, Any]) -> None:
    """Its password would go to whatever listens on this machine."""
    (problem,) = problems("jobs", settings={"leader": {"enabled": True}, "etcd": etcd})
    assert problem.startswith("etcd.endpoints is missing: say where etcd is, such as ")


def test_endpoints_that_a_dynaconf_without_merging_loses_are_missing() -> None:
    """Its secrets file has the same table, which replaces the first one."""
    Path("settings.toml").write_text("[production.leader]\nenabled = true\n[production.etcd]\nendpoints = ['a:1']\n")
    Path(".secrets.toml").write_text(f"[production.etcd]\nuser = 'u'\npassword = '{SECRET}'\n")
    files = [str(Path(name).absolute()) for name in ("settings.toml", ".secrets.toml")]
    (problem,) = problems("jobs", settings=Dynaconf(settings_files=files, environments=True, env="production"))
    assert problem.startswith("etcd.endpoints is missing")


def test_a_wrong_working_directory_sends_no_password(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password comes from the environment, which is the same everywhere."""
    (cwd / "settings.toml").write_text("[etcd]\nendpoints = ['a:1']\n")
    for name, value in (("LEADER__ENABLED", "true"), ("ETCD__USER", "u"), ("ETCD__PASSWORD", SECRET)):
        monkeypatch.setenv(f"ETCDLEADER_{name}", value)
    (cwd / "elsewhere").mkdir()
    monkeypatch.chdir(cwd / "elsewhere")
    (problem,) = problems("jobs")
    assert problem.startswith("etcd.endpoints is missing")
    assert str(cwd / "elsewhere") in problem


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


@pytest.mark.parametrize("table", ["leeder", "Leaders", "LEEDER"])
def test_a_missing_section_names_the_table_that_was_probably_meant(table: str) -> None:
    """One letter is easily missed."""
    (problem,) = problems("jobs", settings={table: {"enabled": False}})
    assert f"there is no [leader] section; did you mean [{table}] in the given mapping?" in problem
    (problem,) = problems("jobs", settings={table: {"color": "red"}})
    assert "did you mean" not in problem
