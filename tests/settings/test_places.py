"""The sources of settings, and their precedence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dynaconf import Dynaconf

from etcdleader._settings.sources import read_settings
from tests.settings.reading import SECRET, etcd, leader, write


def test_each_place_is_read_and_the_later_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared settings are in files, secrets are in other files, and a machine's own settings are in variables."""
    places: list[tuple[str, str]] = [
        ("settings", "settings.toml"),
        ("settings.local", "settings.local.toml"),
        ("_secrets", ".secrets.toml"),
        ("config__settings", "config/settings.toml"),
        ("config__settings.local", "config/settings.local.toml"),
        ("config___secrets", "config/.secrets.toml"),
    ]
    for number, (name, path) in enumerate(places):
        write(**{name: f"[leader]\nid = '{name}'\nlease = {number}\n{'renew = 1' if number == 0 else ''}"})
        read = read_settings(None, "leader").leader
        assert read.values["id"] == name
        assert read.origins[0] == path
    write(_env="ETCDLEADER_LEADER__ID=dotenv\nETCDLEADER_LEADER__LEASE=7s\n")
    assert leader() == {"id": "dotenv", "lease": "7s", "renew": 1}
    monkeypatch.setenv("ETCDLEADER_LEADER__ID", "environment")
    assert leader() == {"id": "environment", "lease": "7s", "renew": 1}
    assert read_settings(None, "leader").leader.origins == (
        "ETCDLEADER_LEADER__ID",
        "ETCDLEADER_LEADER__LEASE in .env",
        "settings.toml",
    )


def test_only_the_working_directory_is_searched(cwd: Path) -> None:
    """dynaconf searches upwards, also from the script's directory. Another program's file must not decide which one leads."""
    assert leader() == {}
    (cwd / "settings.yaml").write_text("leader: {id: yaml}\n")
    (cwd / "dynaconf_hooks.py").write_text("raise SystemExit('a hook was run')")
    (cwd / "config" / "deeper").mkdir(parents=True)
    (cwd / "config" / "deeper" / "settings.toml").write_text("[leader]\nid = 'deeper'\n")
    (cwd / "other.toml").write_text("[leader]\nid = 'included'\n")
    write(settings="dynaconf_include = ['other.toml']\n[leader]\nlease = 1\n")
    assert leader() == {"lease": 1}


def test_tables_merge_and_lists_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A .secrets.toml that adds a password keeps the rest; a list that grows would ask members of another cluster."""
    write(settings="[etcd]\nendpoints = ['a:1', 'b:1']\nuser = 'u'\n", _secrets=f"[etcd]\npassword = '{SECRET}'\n")
    assert etcd() == {"endpoints": ["a:1", "b:1"], "user": "u", "password": SECRET}
    write(config__settings="[etcd]\nendpoints = ['c:1']\n")
    assert etcd()["endpoints"] == ["c:1"]
    monkeypatch.setenv("ETCDLEADER_ETCD", '{endpoints = ["d:1"]}')
    assert etcd() == {"endpoints": ["d:1"], "user": "u", "password": SECRET}


def test_nothing_is_written_to_the_environment() -> None:
    """It would be inherited by every child, passwords too."""
    write(_env=f"ETCDLEADER_ETCD__PASSWORD={SECRET}\nOTHER=1\n")
    before = dict(os.environ)
    assert etcd() == {"password": SECRET}
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("=plain", "plain"),
        (" = spaced ", "spaced"),
        ("='a b # c'", "a b # c"),
        ('="a b"  # comment', "a b"),
        ("=a#b", "a#b"),
        ("=$HOME${HOME}$$", "$HOME${HOME}$$"),
        ("='ü'", "ü"),
        ("='\"quoted\"'", "quoted"),
    ],
)
def test_a_dotenv_file_is_read_as_a_shell_would_but_for_dollars(line: str, value: str) -> None:
    """A password with ${...} in it would lose that part, without a word."""
    write(_env=f"\ufeff# comment\nexport ETCDLEADER_ETCD__PASSWORD{line}\nETCDLEADER_LEADER__ID\n")
    assert etcd() == {"password": value}


def test_a_directory_called_dotenv_is_something_else(cwd: Path) -> None:
    """It is a virtual environment, as often as not."""
    (cwd / ".env").mkdir()
    (cwd / "settings.toml").mkdir()
    assert leader() == {}


def test_a_mapping_a_path_or_dynaconf_is_all_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that passes settings has decided on their source."""
    write(settings="[leader]\nid = 'file'\n", other="[leader]\nlease = 5\n", _env="ETCDLEADER_LEADER__ID=dotenv")
    monkeypatch.setenv("ETCDLEADER_LEADER__ID", "environment")
    assert leader({"leader": {"lease": 5}}) == {"lease": 5}
    assert leader("other.toml") == {"lease": 5}
    assert leader(Path("other.toml").absolute()) == {"lease": 5}
    assert leader(Dynaconf(settings_files=[], LEADER={"lease": 5})) == {"lease": 5}


@pytest.mark.parametrize("settings", [5, ["settings.toml"], object(), b"settings.toml", True])
def test_other_settings_are_a_type_error(settings: object) -> None:
    """The mistake is in the program, not in its settings."""
    with pytest.raises(TypeError, match="must be a Dynaconf object, a mapping or a path"):
        read_settings(settings, "leader")
