"""The values of settings, and the features of dynaconf that have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest
from dynaconf import Dynaconf

from etcdleader._settings.sources import read_settings
from tests.settings.reading import etcd, leader, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("0123", "123", "1_000", "0x10", "1e5", "1.50", "true", "2024-01-01", "07:30:00")),
        *((text, text) for text in ("", "None", "a=b", "a,b", "[1]", "[x", "{a = 1}", "{", "pa$$'\"x", '"', "'a")),
        *((f'"{text}"', text) for text in ("0123", "[1]", "a b")),
        *((f"'{text}'", text) for text in ("0123", "[1]", "a b")),
    ],
)
@pytest.mark.parametrize("setting", ["PASSWORD", "USER", "CERT"])
def test_a_variable_is_taken_as_it_is_written(
    setting: str, text: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dynaconf turns it into numbers, dates and commands. Only its quotes are kept, for users who write them."""
    monkeypatch.setenv(f"ETCDLEADER_ETCD__{setting}", text)
    assert etcd() == {setting.lower(): value}


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("a:1", "a:1"),
        ("a:1,b:2", "a:1,b:2"),
        ('["a:1", "b:2"]', ["a:1", "b:2"]),
        ("['a:1']", ["a:1"]),
        ("[::1]:2379", "[::1]:2379"),
        ("[::1]:2379,[::2]:2379", "[::1]:2379,[::2]:2379"),
        ('"a:1,b:2"', "a:1,b:2"),
        ('["a:1", "dynaconf_merge"]', ["a:1", "dynaconf_merge"]),
    ],
)
def test_endpoints_in_a_variable_are_a_list_or_have_commas(
    text: str, endpoints: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOML as in files, or as everybody else writes it; an IPv6 address looks like a list and is none."""
    monkeypatch.setenv("ETCDLEADER_ETCD__ENDPOINTS", text)
    assert etcd() == {"endpoints": endpoints}


@pytest.mark.parametrize(
    ("word", "flag"),
    [
        *((word, True) for word in ("true", "True", "TRUE", "yes", "on", "1")),
        *((word, False) for word in ("false", "False", "FALSE", "no", "off", "0")),
        *((word, word) for word in ("", "maybe", "t", "2")),
    ],
)
def test_a_flag_may_be_written_as_people_write_flags(word: str, flag: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """In dynaconf TRUE is a string, and so true, and so is FALSE."""
    monkeypatch.setenv("ETCDLEADER_LEADER__ENABLED", word)
    assert leader() == {"enabled": flag}


def test_a_number_where_a_text_is_meant_is_that_text() -> None:
    """An application's Dynaconf object makes a number of a password of digits."""
    assert etcd({"etcd": {"password": 123, "user": 5}}) == {"password": "123", "user": "5"}
    assert leader({"leader": {"id": 7, "election_key": 8}}) == {"id": "7", "election_key": "8"}
    assert etcd({"etcd": {"password": True, "user": 1.5}}) == {"password": True, "user": 1.5}


def test_a_password_file_may_have_a_name_of_digits() -> None:
    assert etcd({"etcd": {"password_file": "1"}}) == {"password_file": "1"}


def test_none_means_not_set() -> None:
    """It is how a mapping, or YAML, writes that something is not set."""
    assert leader({"leader": {"margin": None, "lease": 5}}) == {"lease": 5}
    assert not read_settings({"leader": None}, "leader").leader.exists


def test_the_text_of_a_file_is_taken_literally() -> None:
    """It contains no command, no path of keys, and no name of an environment."""
    write(
        settings="""
        "leader.id" = "dotted"
        leader__id = "underscored"
        ENV_FOR_DYNACONF = "production"
        [production.leader]
        id = "production"
        [leader]
        dynaconf_merge = true
        id = "{env[HOME]} {{ 1 }}"
        [etcd]
        password = "@int 5"
        """
    )
    assert leader() == {"id": "{env[HOME]} {{ 1 }}"}
    assert etcd() == {"password": "@int 5"}


@pytest.mark.parametrize(
    "section", ["store", "keys", "items", "values", "get", "env", "validators", "logger", "default"]
)
def test_a_section_may_be_called_anything(section: str) -> None:
    """In dynaconf these are methods, or environments."""
    write(settings=f"[{section}]\nid = 'x'\n")
    assert leader(section=section) == {"id": "x"}
    assert leader(Dynaconf(settings_files=[str(Path("settings.toml").absolute())]), section) == {"id": "x"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENTS_FOR_DYNACONF", "true"),
        ("ENV_FOR_DYNACONF", "production"),
        ("FORCE_ENV_FOR_DYNACONF", "production"),
        ("ROOT_PATH_FOR_DYNACONF", "/nowhere"),
        ("SETTINGS_FILE_FOR_DYNACONF", "other.toml"),
        ("SECRETS_FOR_DYNACONF", "other.toml"),
        ("INCLUDES_FOR_DYNACONF", "other.toml"),
        ("PRELOAD_FOR_DYNACONF", "other.toml"),
        ("SKIP_FILES_FOR_DYNACONF", "['settings.toml']"),
        ("CORE_LOADERS_FOR_DYNACONF", "['YAML']"),
        ("LOADERS_FOR_DYNACONF", "['no_such_module']"),
        ("MERGE_ENABLED_FOR_DYNACONF", "true"),
        ("AUTO_CAST_FOR_DYNACONF", "true"),
        ("DOTENV_PATH_FOR_DYNACONF", "other.env"),
        ("NESTED_SEPARATOR_FOR_DYNACONF", "_"),
        ("ENVVAR_PREFIX_FOR_DYNACONF", "OTHER"),
        ("DYNACONF_LEADER__ID", "other"),
    ],
)
def test_options_of_dynaconf_in_the_environment_are_for_others(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the application's, for its own settings."""
    write(
        settings="[leader]\nid = 'x'\n[production.leader]\nid = 'y'\n[etcd]\npassword = '@int 5'\n",
        other="[leader]\nid = 'other'\n",
    )
    Path("other.env").write_text("ETCDLEADER_LEADER__ID=other\n")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("ETCDLEADER_LEADER__LEASE", "5s")
    assert leader() == {"id": "x", "lease": "5s"}
    assert etcd() == {"password": "@int 5"}
