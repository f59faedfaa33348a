"""From settings to a manager, or to one error with all problems."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dynaconf import Dynaconf

import etcdleader
from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._managers.etcd_manager import EtcdLeaderManager
from etcdleader._managers.noop_manager import NoopLeaderManager
from etcdleader.config import Config, EtcdConfig
from etcdleader.errors import ConfigError
from tests.helpers.paths import ROOT

SECRET = "hunter2"

ETCD = {"endpoints": ["a:1"]}
ON: dict[str, Any] = {"leader": {"enabled": True}, "etcd": ETCD}
OFF: dict[str, Any] = {"leader": {"enabled": False}}


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("ETCDLEADER_") or name.endswith("_FOR_DYNACONF"):
            monkeypatch.delenv(name)
    return tmp_path


def problems(*args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Return the reported problems, after a check that no output of the exception shows the secret."""
    with pytest.raises(ConfigError) as caught:
        must(*args, **kwargs)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error)
    return error.problems


# Which manager


def test_enabled_makes_a_candidate() -> None:
    """With the settings given and defaults for the rest, as in Go."""
    manager = must("jobs", settings={"leader": {"enabled": True, "lease": "30s", "id": "web"}, "etcd": ETCD})
    assert isinstance(manager, EtcdLeaderManager)
    assert manager.config == Config(enabled=True, lease=30, id="web")
    assert manager.election_key == "jobs"
    assert manager.identity.startswith("web#")
    assert not manager.is_leader()


def test_disabled_makes_one_that_leads_by_itself() -> None:
    """It keeps the settings and the key, for display."""
    manager = must("jobs", settings={"leader": {"enabled": False, "lease": "30s"}})
    assert isinstance(manager, NoopLeaderManager)
    assert manager.config == Config(lease=30)
    assert manager.election_key == "jobs"


def test_the_etcd_of_the_settings_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting of it."""
    made: list[object] = []
    monkeypatch.setattr("etcdleader.factory.EtcdLeaderManager", lambda client, *_: made.append(client))
    table = {
        "endpoints": "https://a:1,https://b:1",
        "user": "u",
        "password": SECRET,
        "ca-cert": "ca",
        "CERT": "cert",
        "key": "key",
        "allow_plaintext_password": True,
        "max-recv-bytes": "2097152",
    }
    must("jobs", settings={"leader": {"enabled": True}, "etcd": table})
    full = EtcdConfig(
        ["https://a:1", "https://b:1"],
        *("u", SECRET, "ca", "cert", "key"),
        allow_plaintext_password=True,
        max_recv_bytes=2097152,
    )
    assert made == [full]


@pytest.mark.parametrize("etcd", [{}, {"etcd": {"endpoints": "nonsense", "passwort": SECRET}}, {"etcd": SECRET}])
def test_a_given_client_goes_before_the_settings(etcd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of the program are not looked up elsewhere, and unused settings are not checked."""
    made: list[object] = []
    monkeypatch.setattr("etcdleader.factory.EtcdLeaderManager", lambda client, *_: made.append(client))
    must("jobs", client=EtcdConfig("b:1"), settings={"leader": {"enabled": True}, **etcd})
    assert made == [EtcdConfig("b:1")]


def test_with_election_off_etcd_is_not_required() -> None:
    """On a developer's machine there is neither the server nor its password."""
    must("jobs", settings={**OFF, "etcd": {"user": "u"}})


def test_a_client_of_a_wrong_type_is_a_type_error() -> None:
    """The mistake is in the program."""
    with pytest.raises(TypeError, match="client must be"):
        must("jobs", client="a:1", settings=ON)


@pytest.mark.parametrize(("argument", "setting", "key"), [("a", None, "a"), (None, "b", "b"), ("a", "b", "a")])
def test_the_election_key_is_the_argument_or_a_setting(argument: str | None, setting: str | None, key: str) -> None:
    """The program's own election key has priority."""
    for enabled in (True, False):
        section = {"enabled": enabled, "election_key": setting}
        assert must(argument, settings={"leader": section, "etcd": ETCD}).election_key == key


def test_without_an_election_there_need_be_no_key() -> None:
    """There is nothing it would name."""
    assert must(settings=OFF).election_key == ""


def test_one_program_may_have_several_elections() -> None:
    """Each with its own section and key."""
    settings = {"a": {"one": {"enabled": True, "id": "1"}}, "two": {"enabled": False, "id": "2"}, "etcd": ETCD}
    assert must("x", settings=settings, section="a.one").config.id == "1"
    assert must("y", settings=settings, section="two").config.id == "2"


@pytest.mark.parametrize(
    "give",
    [
        pytest.param(lambda path: path, id="path"),
        pytest.param(str, id="string"),
        pytest.param(lambda path: tomllib.loads(path.read_text()), id="mapping"),
        pytest.param(lambda path: Dynaconf(settings_files=[str(path)]), id="dynaconf"),
        pytest.param(lambda path: (path.rename("settings.toml"), None)[1], id="around here"),
    ],
)
def test_every_source_gives_the_same_manager(give: Callable[[Path], Any]) -> None:
    """It is a matter of convenience alone."""
    path = Path("app.toml").absolute()
    path.write_text("[leader]\nenabled = true\nlease = '30s'\n[etcd]\nendpoints = ['a:1']\n")
    manager = must("jobs", settings=give(path))
    assert isinstance(manager, EtcdLeaderManager)
    assert manager.config == Config(enabled=True, lease=30)


# What is refused


@pytest.mark.parametrize("settings", [None, {}, {"other": {}}, {"etcd": ETCD}, {"leader": None}])
def test_a_process_that_does_not_find_its_section_does_not_lead(settings: object) -> None:
    """In Go it would be disabled, and so lead: on each machine where a file was forgotten."""
    (problem,) = problems("jobs", settings=settings)
    assert problem.startswith("there is no [leader] section; looked in ")
    assert ("config/settings.toml (not there)" in problem) is (settings is None)


@pytest.mark.parametrize("section", [{}, {"lease": "30s"}, {"enabled": None}])
def test_a_configuration_without_enabled_is_refused(section: object) -> None:
    """It is the one setting without a default."""
    (problem,) = problems("jobs", settings={"leader": section})
    assert problem.startswith("leader.enabled is missing: say true or false; looked in ")


def test_a_candidate_needs_an_election_key_and_endpoints() -> None:
    """Both have no default worth having: not a key that all programs share, nor an etcd that happens to be there."""
    key, etcd = problems(settings={"leader": {"enabled": True}})
    assert key.startswith("election_key is missing")
    assert etcd.startswith("there is no [etcd] section, and no client was given; looked in ")


@pytest.mark.parametrize("enabled", [True, False])
def test_a_wrong_election_key_is_reported_with_its_source(enabled: bool) -> None:
    """The message names the place in which to mend it."""
    section = {"enabled": enabled, "election_key": "jobs/"}
    reported = "election_key = 'jobs/': must not end in \"/\""
    assert problems("jobs/", settings={"leader": {"enabled": enabled}, "etcd": ETCD}) == (reported,)
    assert problems(settings={"leader": section, "etcd": ETCD}) == (f"leader.{reported} [from the given mapping]",)


@pytest.mark.parametrize("key", ["jobs\n", " jobs", "jobs\u00a0"])
def test_whitespace_around_an_election_key_is_refused_wherever_it_is_given(key: str) -> None:
    """A file that ends in a newline would make another election, and so a second leader."""
    Path("settings.toml").write_text(
        f'[leader]\nenabled = true\nelection_key = {json.dumps(key)}\n[etcd]\nendpoints = ["a:1"]\n'
    )
    reported = "must not begin or end with whitespace"
    ways: tuple[Callable[[], object], ...] = (
        lambda: must(key, settings=ON),
        lambda: must(key, settings=OFF),
        lambda: must(settings={"leader": {"enabled": True, "election_key": key}, "etcd": ETCD}),
        must,
        lambda: EtcdLeaderManager(EtcdConfig("a:1"), Config(), key),
        lambda: NoopLeaderManager(Config(), key),
        lambda: NoopLeaderManager(election_key=key),
    )
    for given in ways:
        with pytest.raises(ConfigError, match=reported):
            given()


def test_all_wrong_settings_are_reported_at_once_with_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start, one list: names, values, files that cannot be read, and what is missing."""
    Path("config").mkdir()
    Path("settings.toml").write_text(
        f"[leader]\nenabled = true\nlease = '20s'\nleese = 1\n[etcd]\nendpoints = ['a']\npasswort = '{SECRET}'\n"
    )
    Path("config/settings.toml").write_text(f"[leader]\nid = ''\n[etcd]\nuser = 'u'\npassword = ['{SECRET}']\n")
    Path("config/.secrets.toml").write_text(f"[etcd]\npassword = '{SECRET}\n")
    Path(".env").write_text(f"ETCDLEADER_LEADER__RENEW=15s\nETCDLEADER_ETCD_PASSWORD={SECRET}\n")
    monkeypatch.setenv("ETCDLEADER_LEADER__RETRY", "10s")
    monkeypatch.setenv("ETCDLEADER_LEADER_MARGIN", "1s")
    monkeypatch.setenv("ETCDLEADER_ETCD__CERT", "c")
    found = problems()
    expected = [
        "config/.secrets.toml: ",
        "ETCDLEADER_LEADER_MARGIN: no such setting; did you mean ETCDLEADER_LEADER__MARGIN?",
        "leader.leese: no such setting; did you mean lease? [from settings.toml]",
        (
            "leader.renew + 2 * retry + margin = 36s: must be at most lease = 20s, so that one lost answer does not cost "
            "leadership [renew from ETCDLEADER_LEADER__RENEW in .env, retry from ETCDLEADER_LEADER__RETRY, "
            "lease from settings.toml]"
        ),
        "leader.id = '': must be a name, without control characters [from config/settings.toml]",
        "election_key is missing: give it as an argument or as leader.election_key",
        "ETCDLEADER_ETCD_PASSWORD in .env: no such setting; did you mean ETCDLEADER_ETCD__PASSWORD?",
        "etcd.passwort: no such setting; did you mean password? [from settings.toml]",
        "etcd.endpoints = 'a': must have a port ",
        "etcd.password: must be a string, and not empty [from config/settings.toml]",
        "etcd.cert without key: give both or neither [from ETCDLEADER_ETCD__CERT]",
    ]
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)


def test_unreadable_settings_are_not_reported_as_missing() -> None:
    """It may well be in there."""
    Path("settings.toml").write_text("[leader\n")
    (problem,) = problems("jobs")
    assert problem.startswith("settings.toml: ")
    Path("config").mkdir()
    Path("config/settings.toml").write_text("[leader]\nenabled = true\n")
    (problem,) = problems("jobs")
    assert problem.startswith("settings.toml: ")


@pytest.mark.parametrize(
    "etcd",
    [
        {"endpoints": f"http://u:{SECRET}@a:1"},
        {"endpoints": [f"a:1@{SECRET}"]},
        {"endpoints": SECRET + "@"},
        {"endpoints": {"x": SECRET}},
        {"endpoints": [{"password": f"x@{SECRET}"}]},
        {"password": SECRET},
        {"user": "u", "password": [SECRET]},
        {"user": "u", "password": {"x": SECRET}},
        {"user": "u", "password": SECRET, "endpoints": "a:1"},
        {"passwrod": SECRET},
        {"pass": {"word": SECRET}},
        {"key": f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n"},
        SECRET,
        [SECRET],
    ],
)
def test_no_error_shows_a_secret(etcd: Any) -> None:
    """Errors at the start of a program end up in logs that many can read."""
    assert problems("jobs", settings={"leader": {"enabled": True}, "etcd": etcd})


# What is logged


def test_one_line_reports_the_settings_read_and_their_sources(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it, no log shows which of six places a lease came from. No secrets."""
    Path("settings.toml").write_text("[leader]\nenabled = true\n[etcd]\nendpoints = ['https://a:1']\nuser = 'u'\n")
    Path(".secrets.toml").write_text(f"[etcd]\npassword = '{SECRET}'\n")
    monkeypatch.setenv("ETCDLEADER_LEADER__LEASE", "30s")
    with caplog.at_level(logging.DEBUG):
        must("jobs")
    (record,) = [record for record in caplog.records if record.name == "etcdleader"]
    line = record.getMessage()
    assert record.levelno == logging.INFO
    assert SECRET not in caplog.text
    for part in ("'jobs'", "lease=30.0", "https://a:1", "from settings.toml, ETCDLEADER_LEADER__LEASE, .secrets.toml"):
        assert part in line


# Weight


def run(script: str, cwd: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "ETCDLEADER_LEADER__LEASE": "30s"}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=cwd)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_the_factory_opens_nothing_starts_nothing_and_loads_little(enabled: str, cwd: Path) -> None:
    """It is called where modules are imported: before forks, in command lines, in tests."""
    Path("settings.toml").write_text(f"[leader]\nenabled = {enabled}\n[etcd]\nendpoints = ['127.0.0.1:1']\n")
    script = (
        "import os, sys, threading\n"
        "opened = set(os.listdir('/proc/self/fd'))\n"
        "from etcdleader.factory import must_new_leader_manager_from_config as must\n"
        "manager = must('jobs')\n"
        "assert manager.config.lease == 30\n"
        "loaded = {'asyncio', 'trio', 'grpc', 'etcd3', 'google.protobuf', 'rich', 'typer'} & set(sys.modules)\n"
        "print(loaded, set(os.listdir('/proc/self/fd')) - opened, threading.active_count())"
    )
    assert run(script, cwd) == "set() set() 1\n"


def test_the_factory_with_a_mapping_needs_no_dynaconf(cwd: Path) -> None:
    """An application with its own settings need not have it."""
    script = (
        "import sys\n"
        "sys.modules['dynaconf'] = None\n"
        "from etcdleader.factory import must_new_leader_manager_from_config as must\n"
        f"print(type(must('jobs', settings={ON!r})).__name__)"
    )
    assert run(script, cwd) == "EtcdLeaderManager\n"


def test_any_mapping_will_do() -> None:
    """Not only a dict."""

    class Given(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return ON[key]

        def __iter__(self) -> Any:
            return iter(ON)

        def __len__(self) -> int:
            return len(ON)

    assert isinstance(must("jobs", settings=Given()), EtcdLeaderManager)


def test_wrong_etcd_settings_are_reported_even_if_enabled_is_wrong() -> None:
    """All faults at once: also those behind the one that comes first."""
    for enabled in ({}, {"enabled": "maybe"}):
        found = problems(settings={"leader": {"lease": "1x", **enabled}, "etcd": {"endpoints": ["nope"], "bogus": 1}})
        assert {problem.split(" ")[0].rstrip(":") for problem in found} == {
            "leader.enabled",
            "leader.lease",
            "election_key",
            "etcd.endpoints",
            "etcd.bogus",
        }
    assert problems(
        "jobs", settings={"leader": {"enabled": False, "lease": "1x"}, "etcd": {"endpoints": ["nope"]}}
    ) == (problems("jobs", settings={"leader": {"enabled": False, "lease": "1x"}}))


def test_the_function_has_a_python_name() -> None:
    """One function: what a tool or a reader learns of one name holds for the other."""
    assert etcdleader.from_settings is must
    assert etcdleader.factory.from_settings is must
