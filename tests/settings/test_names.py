"""The names of settings, and the features of dynaconf that have no effect."""

from __future__ import annotations

import pytest

from etcdleader._settings.sources import read_settings
from etcdleader.errors import ConfigError
from tests.settings.reading import SECRET, complaints, etcd, leader, write


@pytest.mark.parametrize(
    "settings",
    [
        {"LEADER": {"Exit-On_Overrun": True}},
        {"Leader": {"exit-on-overrun": True}},
        {"leader": {"EXIT_ON_OVERRUN": True}},
    ],
)
def test_case_and_dashes_do_not_matter(settings: dict[str, object]) -> None:
    """Variables are upper case, files are not; viper and dynaconf are case-blind, too."""
    assert leader(settings) == {"exit_on_overrun": True}


def test_two_spellings_of_a_table_are_one_table() -> None:
    """dynaconf would keep one of the two."""
    assert leader({"leader": {"id": "x"}, "LEADER": {"Lease": 5}}) == {"id": "x", "lease": 5}


@pytest.mark.parametrize(
    ("first", "second"), [("[etcd]", "[Etcd]"), ("[ETCD]", "[etcd]"), ("[etcd]", '["etcd "]'), ("[Etcd]", "[eTCD]")]
)
def test_two_spellings_of_a_table_in_one_file_are_one_table(first: str, second: str) -> None:
    """The first one would vanish, and its endpoints with it."""
    write(settings=f"{first}\nendpoints = ['a:1']\n{second}\nuser = 'u'\n")
    assert etcd() == {"endpoints": ["a:1"], "user": "u"}
    write(settings="[leader]\nenabled = false\n[LEADER]\nid = 'x'\n")
    assert leader() == {"enabled": False, "id": "x"}


@pytest.mark.parametrize(
    "content",
    [
        "[leader]\nenabled = true\nEnabled = false\n",
        "[leader]\nenabled = true\n[Leader]\nenabled = false\n",
    ],
)
def test_two_values_of_one_setting_in_one_file_are_a_complaint(content: str) -> None:
    """Which one counts would depend on the order of the lines."""
    write(settings=content)
    (complaint,) = complaints()
    assert complaint.startswith("leader.enabled: has two values in one place, under two spellings of its name")
    assert complaint.endswith("[from settings.toml]")
    write(settings=content.replace("false", "true"))
    assert leader() == {"enabled": True}


def test_two_values_of_one_variable_are_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process's environment has no order to rely on."""
    monkeypatch.setenv("ETCDLEADER_LEADER__LEASE", "30s")
    monkeypatch.setenv("etcdleader_leader__lease", "40s")
    (complaint,) = complaints()
    assert complaint.startswith("leader.lease: has two values in one place")


@pytest.mark.parametrize("later", ["ETCDLEADER_LEADER", "ETCDLEADER_LEADER__LEASE"])
def test_a_value_in_the_place_of_a_table_takes_no_table_away(later: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the table, such as ``enabled = false``, would be lost without a message."""
    if later == "ETCDLEADER_LEADER":
        write(settings="[leader]\nenabled = false\n")
    else:
        write(settings="leader = 5\n")
    monkeypatch.setenv(later, "x")
    monkeypatch.setenv("ETCDLEADER_LEADER__ID", "y")
    (complaint,) = complaints()
    assert complaint.startswith("leader: must be a table")


def test_a_section_may_lie_deeper_and_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program, several elections: settings beside a section are not checked."""
    write(settings="[sync-job]\nother = 1\n[sync-job.election]\nlease = 5\n[sync_job.backup]\nx = 1\n[leader]\nx = 1")
    monkeypatch.setenv("ETCDLEADER_SYNC_JOB__ELECTION__RENEW", "2s")
    monkeypatch.setenv("ETCDLEADER_OTHER__LEASE", "2s")
    for section in ("sync_job.election", "Sync-Job.Election"):
        assert leader(section=section) == {"lease": 5, "renew": "2s"}
    monkeypatch.setenv("ETCDLEADER_SYNC_JOB", '{election = {retry = "1s"}}')
    assert leader(section="sync_job.election") == {"lease": 5, "renew": "2s", "retry": "1s"}


@pytest.mark.parametrize("section", ["", ".", "a.", ".a", "a..b", "etcd", "ETCD"])
def test_a_section_has_a_name_of_its_own(section: str) -> None:
    """[etcd] is the other table."""
    with pytest.raises(ConfigError, match="must be the name of a table"):
        read_settings({}, section)


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        ({"leader": {"leese": 1}}, "leader.leese: no such setting; did you mean lease?"),
        ({"leader": {"leases": {}}}, "leader.leases: no such setting; did you mean lease?"),
        ({"leader": {"zzz": 1}}, "leader.zzz: no such setting; there are enabled, id, "),
        ({"etcd": {"passwort": SECRET}}, "etcd.passwort: no such setting; did you mean password?"),
        ({"leader": 5}, "leader: must be a table"),
        ({"leader": [{"lease": 1}]}, "leader: must be a table"),
        ({"etcd": SECRET}, "etcd: must be a table"),
        ({"leader": {"lease": {"x": 1}}}, "leader.lease: must not be a table"),
        ({"leader": {"lease": {}}}, "leader.lease: must not be a table"),
    ],
)
def test_wrong_names_and_types_are_reported(settings: object, reported: str) -> None:
    """dynaconf keeps it without a word. Its value is not shown: it may be a misspelled secret."""
    (complaint,) = complaints(settings)
    assert complaint.startswith(reported)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ETCDLEADER_LEADER_LEASE", "ETCDLEADER_LEADER__LEASE"),
        ("ETCDLEADER_LEADER_EXIT_ON_OVERRUN", "ETCDLEADER_LEADER__EXIT_ON_OVERRUN"),
        ("ETCDLEADER_LEADER__EXIT__ON__OVERRUN", None),
        ("ETCDLEADER__LEADER__LEASE", "ETCDLEADER_LEADER__LEASE"),
        ("ETCDLEADER_LEADERLEASE", "ETCDLEADER_LEADER__LEASE"),
        ("ETCDLEADER_LEADER_LEESE", "ETCDLEADER_LEADER__LEASE"),
        ("ETCDLEADER_LEASE", "ETCDLEADER_LEADER__LEASE"),
        ("ETCDLEADER_ETCD_ENDPOINT", "ETCDLEADER_ETCD__ENDPOINTS"),
        ("ETCDLEADER_ETCD_PASSWORD", "ETCDLEADER_ETCD__PASSWORD"),
        ("ETCDLEADER_LEADER___LEASE", None),
        ("ETCDLEADER_LEADER__LEESE", None),
        ("etcdleader_leader_lease", "ETCDLEADER_LEADER__LEASE"),
    ],
)
@pytest.mark.parametrize("dotenv", [False, True])
def test_a_variable_that_sets_nothing_is_reported(
    name: str, meant: str | None, dotenv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an underscore too few dynaconf makes another key of it, and the lease stays what it was."""
    if dotenv:
        write(_env=f"{name}={SECRET}")
    else:
        monkeypatch.setenv(name, SECRET)
    (complaint,) = complaints()
    assert name in complaint
    assert (".env" in complaint) is dotenv
    if meant:
        assert complaint.endswith(f"did you mean {meant}?")
    else:
        assert "no such setting" in complaint


def test_variables_for_the_command_of_a_leader_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """``etcdleader run`` sets them, and what it starts may campaign, too."""
    for name in ("TOKEN", "ELECTION", "KEY", "IDENTITY", "LEASE_ID"):
        monkeypatch.setenv(f"ETCDLEADER_{name}", "7")
    for name in ("ETCDLEADER", "ETCDLEADERLEADER__ID", "XETCDLEADER_LEADER__ID", "ETCDLEADER_SOMETHING", "LEADER__ID"):
        monkeypatch.setenv(name, "x")
    assert leader() == {}
    assert leader(section="token") == {}
