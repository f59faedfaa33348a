"""Settings that people try but that are not supported: the message says what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from dynaconf import Dynaconf
from dynaconf.utils.parse_conf import converters

from etcdleader import ConfigError
from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._cli.run.settings import resolve_run
from etcdleader._settings.known import CASTS
from etcdleader._settings.resolve import resolve_etcd
from etcdleader._settings.sources import Overrides
from tests.settings.reading import SECRET, complaints, etcd, leader, write

OBJECT = "settings=Dynaconf("


def problems(settings: object = None, key: str | None = "jobs") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        must(key, settings=settings)
    assert SECRET not in str(caught.value)
    return caught.value.problems


# Environments


@pytest.mark.parametrize("name", ["default", "DEFAULT", "global"])
@pytest.mark.parametrize("table", ["leader", "etcd", "Leader"])
@pytest.mark.parametrize("place", ["settings", "config___secrets"])
def test_an_environment_is_refused_with_the_way_to_read_it(name: str, table: str, place: str) -> None:
    """Without a word its ``enabled = false`` would be dropped."""
    write(**{place: f"[{name}.{table}]\nuser = '{SECRET}'\n"})
    (complaint,) = complaints()
    file = {"settings": "settings.toml", "config___secrets": "config/.secrets.toml"}[place]
    assert complaint.startswith(f"{file}: [{name}.{table}] ")
    assert f'{OBJECT}environments=True, settings_files=["{file}"])' in complaint
    (problem,) = problems()
    assert problem == complaint


def test_an_environment_beside_the_table_is_refused_too() -> None:
    """The two would be merged by dynaconf, and one of them is dropped here."""
    write(settings="[leader]\nenabled = true\n[default.leader]\nlease = '20s'\n[etcd]\nendpoints = ['a:1']\n")
    (problem,) = problems()
    assert problem.startswith("settings.toml: [default.leader] ")


def test_an_environment_in_a_mapping_is_refused() -> None:
    (problem,) = problems({"default": {"leader": {"enabled": True}}})
    assert problem.startswith("the given mapping: [default.leader] ")
    assert "write [leader]" in problem


@pytest.mark.parametrize("name", ["production", "Development", "dev", "staging"])
def test_the_table_of_an_environment_is_named_where_the_section_is_missing(name: str) -> None:
    write(settings=f"[{name}.leader]\nenabled = true\n[{name}.etcd]\nendpoints = ['a:1']\n")
    (problem,) = problems()
    assert problem.startswith(f"there is no [leader] section; did you mean [{name}.leader] in settings.toml?")
    assert f"{OBJECT}environments=True, ...)" in problem


def test_a_command_does_not_pass_over_the_table_of_an_environment() -> None:
    """The command needs no table, and the candidate would lead with the default settings."""
    write(settings="[production.leader]\nenabled = false\n[etcd]\nendpoints = ['a:1']\n")
    with pytest.raises(ConfigError, match=r"did you mean \[production.leader\]"):
        resolve_run("jobs", None, None, Overrides(enabled_by_default=True))


@pytest.mark.parametrize("content", ["[default.leader]\nlease = 60\n", "[production.leader]\nlease = 60\n"])
def test_a_command_names_what_can_be_done_on_its_command_line(content: str) -> None:
    """Its user cannot pass an object, and ``--endpoint`` does not replace the tables."""
    write(settings=content)
    with pytest.raises(ConfigError) as caught:
        resolve_run("jobs", None, None, Overrides(endpoints=["a:1"], enabled_by_default=True))
    (problem,) = caught.value.problems
    assert "--settings FILE" in problem
    assert "--settings /dev/null --endpoint HOST:PORT" in problem
    assert "plain [leader] and [etcd] tables" in problem
    assert "Dynaconf(" not in problem


def test_each_command_that_only_needs_etcd_names_its_command_line_too() -> None:
    write(settings="[default.etcd]\nendpoints = ['a:1']\n")
    with pytest.raises(ConfigError) as caught:
        resolve_etcd(None, None, remedy="use --endpoint HOST:PORT")
    assert "--settings FILE" in str(caught.value)
    assert "Dynaconf(" not in str(caught.value)


def test_a_file_that_a_command_was_given_and_that_is_no_toml_has_a_remedy_there() -> None:
    Path("app.yaml").write_text("")
    with pytest.raises(ConfigError) as caught:
        resolve_etcd("app.yaml", None, remedy="use --endpoint HOST:PORT")
    assert caught.value.problems == ("app.yaml: is not a .toml file: write the settings as TOML",)


def test_a_section_may_lie_in_an_environment_that_is_named() -> None:
    """Then it is a table as any other."""
    write(settings="[default.leader]\nid = 'x'\n[default.etcd]\nx = 1\n")
    assert leader(section="default.leader") == {"id": "x"}


def test_other_tables_of_an_environment_are_not_ours() -> None:
    write(settings="[default]\nx = 1\n[default.other]\nlease = 1\n[leader]\nid = 'x'\n")
    assert leader() == {"id": "x"}


def test_an_object_without_environments_is_recognized_by_its_tables() -> None:
    write(settings="[default.leader]\nenabled = true\n")
    (problem,) = problems(Dynaconf(root_path=str(Path.cwd()), settings_files=["settings.toml"]))
    assert problem.startswith("there is no [leader] section; ")
    assert "Dynaconf(environments=True, ...)" in problem


# Files of other kinds


@pytest.mark.parametrize("folder", ["", "config/"])
@pytest.mark.parametrize(
    "name", ["settings.yaml", "settings.yml", "settings.json", "settings.py", "settings.ini", ".secrets.yaml"]
)
def test_a_file_that_is_no_toml_is_named_where_something_is_missing(folder: str, name: str) -> None:
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"leader: {{password: {SECRET}}}\n")
    (problem,) = problems()
    assert problem.startswith("there is no [leader] section; ")
    assert f"{path} is there, but only TOML is read: write {path.with_suffix('.toml')}, or pass {OBJECT}" in problem
    assert f'settings_files=["{path}"])' in problem


def test_a_file_that_is_no_toml_is_another_programs_where_nothing_is_missing() -> None:
    """Django has a settings.py."""
    Path("settings.py").write_text("raise SystemExit('it was run')")
    write(settings="[leader]\nenabled = true\n[etcd]\nendpoints = ['a:1']\n")
    must("jobs")
    (problem,) = problems(key=None)
    assert "settings.py" not in problem


def test_a_file_that_was_given_and_is_no_toml_is_refused_with_the_way_to_read_it() -> None:
    Path("app.yaml").write_text("")
    (complaint,) = complaints("app.yaml")
    assert complaint == f'app.yaml: is not a .toml file: pass {OBJECT}settings_files=["app.yaml"]) to read it'


# Casts


@pytest.mark.parametrize("cast", ["@int 5", "@format {env[HOME]}", "@jinja {{ 1 }}", "@none", " @bool true"])
@pytest.mark.parametrize("setting", ["lease", "enabled", "id", "election_key"])
@pytest.mark.parametrize("place", ["file", "variable", "dotenv", "mapping"])
def test_a_cast_is_refused_with_the_way_to_have_it(
    cast: str, setting: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a text it would be the name of an election, or of a candidate."""
    table = {"enabled": "true", "election_key": "jobs"} | {setting: cast}
    settings: object = None
    write(settings="[etcd]\nendpoints = ['a:1']\n" + ("[leader]\nenabled = true\n" if place != "mapping" else ""))
    if place == "file":
        write(config__settings="[leader]\n" + "".join(f"{name} = '{value}'\n" for name, value in table.items()))
    elif place == "mapping":
        settings = {"leader": table, "etcd": {"endpoints": "a:1"}}
    else:
        variables = {f"ETCDLEADER_LEADER__{name.upper()}": value for name, value in table.items()}
        if place == "dotenv":
            write(_env="".join(f"{name}='{value}'\n" for name, value in variables.items()))
        for name, value in variables.items() if place == "variable" else ():
            monkeypatch.setenv(name, value)
    (problem,) = problems(settings, key=None)
    assert problem.startswith(
        f"leader.{setting}: {cast.split(maxsplit=1)[0]} is a cast of dynaconf, and is not applied here: "
    )
    assert f"pass {OBJECT}...)" in problem
    assert "[from " in problem


@pytest.mark.parametrize("endpoints", ["@json ['a:1']", ["a:1", "@format {env[ETCD]}:2379"]])
def test_a_cast_in_a_list_is_refused(endpoints: object) -> None:
    (problem,) = problems({"leader": {"enabled": True}, "etcd": {"endpoints": endpoints}})
    assert problem.startswith("etcd.endpoints: @")


@pytest.mark.parametrize("password", ["@int 5", "@none", "@format x"])
def test_a_password_may_look_like_a_cast(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are drawn at random."""
    monkeypatch.setenv("ETCDLEADER_ETCD__PASSWORD", password)
    assert etcd() == {"password": password}
    write(_secrets=f"[etcd]\npassword = '{password}'\n")
    monkeypatch.delenv("ETCDLEADER_ETCD__PASSWORD")
    assert etcd() == {"password": password}


@pytest.mark.parametrize("text", ["@home", "@internal x", "@", "a @int 5", "@int5"])
def test_what_only_begins_like_a_cast_is_a_text(text: str) -> None:
    assert leader({"leader": {"id": text}}) == {"id": text}


def test_the_casts_are_those_of_dynaconf() -> None:
    assert {f"@{name}" for name in CASTS} >= set(converters)


def test_an_object_whose_casts_are_off_gives_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is its application's choice."""
    monkeypatch.setenv("AUTO_CAST_FOR_DYNACONF", "false")
    monkeypatch.setenv("APP_LEADER__ID", "@int 5")
    assert leader(Dynaconf(settings_files=[], envvar_prefix="APP")) == {"id": "@int 5"}


# A folder below


@pytest.mark.parametrize("place", ["settings.toml", "config/settings.toml", "config/.secrets.toml"])
@pytest.mark.parametrize("depth", [1, 3])
def test_settings_in_a_parent_folder_are_named(
    place: str, depth: int, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cwd / place).parent.mkdir(exist_ok=True)
    (cwd / place).write_text("[leader]\nenabled = true\n")
    below = cwd.joinpath(*"abc"[:depth])
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    (problem,) = problems()
    assert problem.startswith("there is no [leader] section; ")
    assert f'there is {cwd / place} above: start in {cwd}, or name the file (settings="{cwd / place}"' in problem


def test_a_parent_folder_does_not_matter_where_a_settings_file_is_here(cwd: Path) -> None:
    write(settings="[etcd]\nendpoints = ['a:1']\n")
    (problem,) = problems()
    assert " above: " not in problem


# settings.local.toml


def test_local_settings_override_the_shared_ones_and_secrets_override_both() -> None:
    """A developer's own file lies beside the one that is checked in."""
    write(settings="[leader]\nid = 'shared'\nlease = 1\nrenew = 1\n")
    Path("settings.local.toml").write_text("[leader]\nid = 'local'\nlease = 2\n")
    write(_secrets="[leader]\nlease = 3\n")
    assert leader() == {"id": "local", "lease": 3, "renew": 1}
    write(config__settings="[leader]\nlease = 4\n")
    assert leader()["lease"] == 4
    Path("config/settings.local.toml").write_text("[leader]\nlease = 5\n")
    assert leader()["lease"] == 5
    write(config___secrets="[leader]\nlease = 6\n")
    assert leader()["lease"] == 6
