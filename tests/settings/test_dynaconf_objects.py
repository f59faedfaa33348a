"""An application's own Dynaconf object, and what reading costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dynaconf import Dynaconf, Validator

from etcdleader import ConfigError, must_new_leader_manager_from_config
from etcdleader._settings.sources import Settings, read_settings
from tests.helpers.paths import ROOT
from tests.settings.reading import SECRET, complaints, etcd, leader, write


def application(**options: Any) -> Any:
    return Dynaconf(envvar_prefix="APP", root_path=str(Path.cwd()), settings_files=["settings.toml"], **options)


def test_a_dynaconf_object_is_read_by_its_own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environments, casts and variables are the application's choice."""
    write(
        settings="""
        [default.app.leader]
        Id = "@format web-{env[WHERE]}"
        lease = 60
        [production.app.leader]
        lease = 30
        dynaconf_merge = true
        [default.etcd]
        endpoints = ["a:1"]
        """
    )
    monkeypatch.setenv("WHERE", "here")
    monkeypatch.setenv("APP_APP__LEADER__EXIT_ON_OVERRUN", "TRUE")
    monkeypatch.setenv("APP_ETCD__PASSWORD", "123456")
    settings = application(environments=True, env="production", merge_enabled=True)
    assert leader(settings, "app.leader") == {"id": "web-here", "lease": 30, "exit_on_overrun": True}
    assert etcd(settings) == {"endpoints": ["a:1"], "password": "123456"}


PRODUCTION = """
    [default.leader]
    enabled = true
    [default.etcd]
    endpoints = ["a:1"]
    [production.etcd]
    user = "jobs"
    password = "x"
    """


def problems(settings: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        must_new_leader_manager_from_config("jobs", settings=settings)
    return caught.value.problems


@pytest.mark.parametrize("how", ["env", "from_env", "variable"])
def test_a_table_that_replaces_that_of_the_default_environment_is_explained(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten ``dynaconf_merge`` loses the endpoints without a word."""
    write(settings=PRODUCTION)
    if how == "variable":
        monkeypatch.setenv("ENV_FOR_DYNACONF", "production")
    settings = application(environments=True, **({"env": "production"} if how == "env" else {}))
    (problem,) = problems(settings.from_env("production") if how == "from_env" else settings)
    assert problem == (
        'etcd.endpoints is missing: say where etcd is, such as ["127.0.0.1:2379"]; '
        "looked in the given Dynaconf settings, environment 'production'; by dynaconf's rules, "
        "[production.etcd] replaces [default.etcd] unless it has dynaconf_merge = true"
    )


def test_a_missing_flag_is_explained_by_the_same_rule() -> None:
    write(settings="[default.leader]\nenabled = true\n[prod.leader]\nlease = 60\n[prod.etcd]\nendpoints = ['a:1']\n")
    (problem,) = problems(application(environments=True, env="prod"))
    assert problem.startswith("leader.enabled is missing")
    assert "[prod.leader] replaces [default.leader]" in problem


def test_a_missing_table_has_replaced_nothing() -> None:
    write(settings="[default.leader]\nenabled = true\n")
    (problem,) = problems(application(environments=True, env="prod"))
    assert problem == (
        "there is no [etcd] section, and no client was given; looked in the given Dynaconf settings, environment 'prod'"
    )


def test_without_environments_none_is_named() -> None:
    write(settings="[leader]\nenabled = true\n[etcd]\nuser = 'jobs'\npassword = 'x'\n")
    (problem,) = problems(application())
    assert problem.endswith("looked in the given Dynaconf settings")


def test_the_origin_of_a_value_names_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    write(settings=PRODUCTION)
    with caplog.at_level("INFO", "etcdleader"):
        must_new_leader_manager_from_config("jobs", settings=application(environments=True, env="qa"))
    assert caplog.messages[-1].endswith(", from the given Dynaconf settings, environment 'qa'")


def test_only_what_matters_is_looked_at_in_a_dynaconf_object() -> None:
    """The rest may be lazy and depend on what is not there yet."""
    write(settings="other = '@format {env[NO_SUCH_VARIABLE]}'\n[leader]\nid = 'x'\n")
    assert leader(application()) == {"id": "x"}


@pytest.mark.parametrize(
    "content",
    [
        "[leader]\nid = '@format {env[NO_SUCH_VARIABLE]}'\n",
        "[leader]\nid = '@jinja {{ no_such.thing }}'\n",
        "[leader\n",
    ],
)
def test_a_dynaconf_object_that_fails_is_a_complaint(content: str) -> None:
    """No exception of dynaconf's leaves the library, and none is lost."""
    write(settings=content)
    (complaint,) = complaints(application())
    assert complaint.startswith("the given Dynaconf settings: ")


def test_a_validators_error_does_not_show_the_value() -> None:
    """Its message has the value in it."""
    write(settings=f"[etcd]\npassword = '{SECRET}'\n")
    (complaint,) = complaints(application(validators=[Validator("etcd.password", eq="other")]))
    assert "ValidationError" in complaint


@pytest.mark.parametrize(
    ("settings", "loaded"), [("{'leader': {'enabled': False}}", False), ("'settings.toml'", True), ("None", True)]
)
def test_dynaconf_is_imported_only_where_a_file_is_read(settings: str, loaded: bool) -> None:
    """It costs a tenth of a second, and an application with its own settings may not have it."""
    write(settings="[leader]\nenabled = false\n")
    script = (
        "import sys\nfrom etcdleader._settings.sources import read_settings\n"
        "assert 'dynaconf' not in sys.modules\n"
        f"assert read_settings({settings}, 'leader').leader.values == {{'enabled': False}}\n"
        "print('dynaconf' in sys.modules)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.stdout.strip(), done.stderr) == (str(loaded), "")


def test_what_was_read_is_not_shown() -> None:
    """A debugger prints what it stops at."""
    read = read_settings({"etcd": {"password": SECRET}}, "leader")
    assert isinstance(read, Settings)
    assert SECRET not in f"{read!r}{read._tree!r}{read.etcd!r}"
