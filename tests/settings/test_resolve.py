"""The factory and the commands judge settings in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etcdleader import ConfigError, EtcdConfig
from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._cli.check_config import read_all, settings_of
from etcdleader._cli.options import etcd_config
from etcdleader._cli.run.settings import resolve_run
from etcdleader._settings import sources
from etcdleader._settings.sources import Overrides
from tests.settings.reading import write

READERS: dict[str, Callable[[], object]] = {
    "factory": lambda: must("jobs"),
    "run": lambda: resolve_run("jobs", None, None, Overrides(enabled_by_default=True)),
    "check-config, doctor": lambda: read_all(None, "leader"),
    "status, observe, step-down": lambda: etcd_config(None, None),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_each_file_is_read_once(read: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes meanwhile would be judged as what it never was."""
    opened: list[Path] = []
    monkeypatch.setattr(sources, "refuse_if_written_by_others", lambda path, **_: opened.append(path))
    write(settings="[leader]\nenabled = true\n", _secrets="[etcd]\nendpoints = ['a:1']\n")
    read()
    assert opened == [Path("settings.toml"), Path(".secrets.toml")]


@pytest.mark.parametrize(
    "problems",
    [
        pytest.param(lambda: read_all(None, "leader", ["bad"]).problems, id="check-config, doctor"),
        pytest.param(lambda: refused(lambda: etcd_config(None, ["bad"])), id="status"),
        pytest.param(
            lambda: refused(
                lambda: resolve_run("jobs", None, None, Overrides(endpoints=["bad"], enabled_by_default=True))
            ),
            id="run",
        ),
    ],
)
@pytest.mark.parametrize("settings", ["", "[etcd]\nendpoints = ['wrong']\n", "[etcd]\n"])
def test_endpoints_of_a_command_line_are_judged_and_those_that_they_replace_are_not(
    problems: Callable[[], tuple[str, ...]], settings: str
) -> None:
    write(settings=f"[leader]\nenabled = true\n{settings}")
    (problem,) = problems()
    assert problem.startswith("etcd.endpoints = 'bad': must have a port")
    assert problem.endswith("[from --endpoint]")


def refused(read: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as wrong:
        read()
    return wrong.value.problems


def test_what_is_shown_has_the_option_of_the_command_line_as_its_origin() -> None:
    write(settings="[leader]\nenabled = true\n[etcd]\nendpoints = ['a:1']\nuser = 'u'\npassword = 'secret'\n")
    read = read_all(None, "leader", ["https://b:2"])
    assert read.etcd == EtcdConfig("https://b:2", "u", "secret")
    shown = {setting.name: (setting.value, setting.origin) for setting in settings_of(read)}
    assert shown["etcd.endpoints"] == ("https://b:2", "--endpoint")
    assert shown["etcd.password"] == ("***", "settings.toml")
    assert shown["leader.lease"] == ("60s", "default")


def test_where_election_is_off_only_the_operators_commands_look_at_etcd() -> None:
    """A program does not use it. An operator may still ask for it."""
    write(settings="[leader]\nenabled = false\n[etcd]\nendpoints = ['wrong']\n")
    must("jobs")
    resolve_run("jobs", None, None, Overrides(enabled_by_default=True))
    for problems in (read_all(None, "leader").problems, refused(lambda: etcd_config(None, None))):
        (problem,) = problems
        assert problem.startswith("etcd.endpoints = 'wrong'")
