"""The commands for operators, as far as they need no etcd: help, settings, exit codes, secrets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.terminal import PATIENCE, Terminal, environment, run

COMMANDS = ("status", "observe", "step-down", "check-config", "doctor")
CANARY = "canary-5e1d-password"
SETTINGS = """
[leader]
enabled = true
lease = "20s"
renew = "4s"
election_key = "jobs"

[etcd]
endpoints = ["127.0.0.1:1"]
user = "jobs"
"""
SECRETS = f'[etcd]\npassword = "{CANARY}"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with settings, and with the password in a separate file."""
    (tmp_path / "settings.toml").write_text(SETTINGS)
    (tmp_path / ".secrets.toml").write_text(SECRETS)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_examples_and_exit_codes(command: str, tmp_path: Path) -> None:
    done = run(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert f"etcdleader {command}" in done.stdout.partition("Examples:")[2]
    assert "Exit status:" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["observe", "--help"], ["doctor", "--help"]])
def test_help_loads_neither_grpc_nor_dynaconf_nor_a_loop(arguments: list[str]) -> None:
    """It is asked for by completion, too, at each press of a key."""
    script = (
        "import sys\n"
        f"sys.argv = ['etcdleader', *{arguments!r}]\n"
        "from etcdleader._cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('grpc', 'etcd3', 'google.protobuf', 'dynaconf', 'asyncio', 'trio')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment()
    )
    assert done.stderr == "[]\n"
    assert "Usage:" in done.stdout


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    program = shutil.which("etcdleader", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("etcdleader is on the path, but not installed")
    variables = {"_ETCDLEADER_COMPLETE": "complete_bash", "COMP_WORDS": "etcdleader st", "COMP_CWORD": "1"}
    done = subprocess.run(
        [program], env=environment(**variables), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert sorted(done.stdout.split()) == ["status", "step-down"]


# check-config


def test_check_config_shows_each_setting_and_where_it_came_from(folder: Path) -> None:
    done = run("check-config", folder=folder, variables={"ETCDLEADER_LEADER__RETRY": "2s"})
    assert (done.returncode, done.stderr) == (0, "")
    shown = {
        line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("lead", "etcd"))
    }
    assert shown["leader.lease"] == ["20s", "settings.toml"]
    assert shown["leader.retry"] == ["2s", "ETCDLEADER_LEADER__RETRY"]
    assert shown["leader.margin"] == ["1s", "default"]
    assert shown["leader.election_key"] == ["jobs", "settings.toml"]
    assert shown["etcd.password"] == ["***", ".secrets.toml"]
    assert "= 9s, of a lease of 20s" in done.stdout


def test_check_config_reports_the_same_as_json(folder: Path) -> None:
    done = run("check-config", "--json", folder=folder)
    read = json.loads(done.stdout)
    assert (read["ok"], read["problems"]) == (True, [])
    assert read["settings"]["leader.lease"] == {"value": "20s", "origin": "settings.toml"}
    assert read["settings"]["etcd.password"] == {"value": "***", "origin": ".secrets.toml"}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_check_config_reports_all_problems_at_once(folder: Path, form: list[str]) -> None:
    (folder / "settings.toml").write_text(SETTINGS.replace("lease =", "leese =").replace('"4s"', '"4 parsecs"'))
    with (folder / ".secrets.toml").open("a") as secrets:
        secrets.write('cert = "only-half.pem"\n')
    done = run("check-config", *form, folder=folder)
    assert done.returncode == 78
    problems = json.loads(done.stdout)["problems"] if form else done.stderr.splitlines()
    assert len(problems) == 3
    for words in ("did you mean lease", "4 parsecs", "cert without key"):
        assert any(words in problem for problem in problems), words
    assert CANARY not in done.stdout + done.stderr


def test_check_config_refuses_an_election_key_with_the_newline_of_its_file(folder: Path) -> None:
    done = run("check-config", folder=folder, variables={"ETCDLEADER_LEADER__ELECTION_KEY": "jobs\n"})
    assert done.returncode == 78
    assert "must not begin or end with whitespace" in done.stderr


def test_check_config_without_settings_lists_the_searched_places(tmp_path: Path) -> None:
    done = run("check-config", folder=tmp_path)
    assert done.returncode == 78
    assert "there is no [leader] section; looked in settings.toml (not there)" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_config_reads_another_file_and_another_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[sync.election]\nenabled = true\nid = "mine"\n[etcd]\nendpoints = ["a:1"]\n')
    done = run("check-config", "--settings", str(path), "--section", "sync.election", folder=tmp_path)
    assert done.returncode == 0
    assert re.search(r"sync\.election\.id +mine +", done.stdout)
    assert "No election_key is set: the program must pass it." in done.stdout


def test_check_config_warns_when_election_is_off(tmp_path: Path) -> None:
    """Then each process leads, which must be seen before the night."""
    (tmp_path / "settings.toml").write_text("[leader]\nenabled = false\n")
    done = run("check-config", folder=tmp_path)
    assert done.returncode == 0
    assert "each process with these settings leads, without an election" in done.stdout


def test_check_config_approves_of_the_sample(tmp_path: Path) -> None:
    done = run("check-config", "--settings", str(ROOT / "config" / "settings.toml"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


# Exit codes


@pytest.mark.parametrize("command", [["status"], ["status", "jobs"], ["step-down", "jobs"]])
def test_without_an_etcd_a_command_reports_it_in_one_line(command: list[str], tmp_path: Path) -> None:
    done = run(*command, "--endpoint", "127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 69
    assert done.stderr.startswith("etcd does not respond: 127.0.0.1:1")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize("command", [["status"], ["observe", "jobs"], ["step-down", "jobs"]])
def test_without_settings_a_command_names_the_option_that_would_do(command: list[str], tmp_path: Path) -> None:
    done = run(*command, folder=tmp_path)
    assert done.returncode == 78
    assert "--endpoint HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "jobs/"],
        ["status", "jobs", "--prefix", "j"],
        ["status", "jobs", "--timeout", "soon"],
        ["status", "jobs", "--timeout", "0s"],
        ["observe"],
        ["observe", "jobs", "--watch", "--json"],
        ["step-down", "jobs", "--yes"],
        ["doctor", "jobs", "--no-such-option"],
        *([command, "jobs\n"] for command in ("status", "observe", "step-down", "doctor")),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str], folder: Path) -> None:
    done = run(*arguments, folder=folder)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["status", "jobs"], ["step-down", "jobs"], ["doctor"], ["doctor", "--json"]])
def test_no_command_shows_a_password(command: list[str], folder: Path) -> None:
    done = run(*command, folder=folder)
    assert done.returncode in {1, 69}
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["status", "observe", "step-down", "doctor"])
def test_several_endpoints_may_be_separated_by_commas(command: str, folder: Path) -> None:
    """As etcdctl takes them, and as the setting does."""
    done = run(command, "jobs", "--endpoint", "127.0.0.1:1,127.0.0.1:x", folder=folder)
    assert done.returncode in {1, 78}
    assert "endpoints = '127.0.0.1:x': must have a port" in done.stdout + done.stderr
    assert "IPv6" not in done.stdout + done.stderr


def test_step_down_explains_its_timeout(tmp_path: Path) -> None:
    text = " ".join(run("step-down", "--help", folder=tmp_path).stdout.split())
    assert "Time to wait until the leader has left" in text
    assert "each call" not in text


def test_observe_prints_no_leader_while_its_own_requests_fail(folder: Path) -> None:
    """``leader#1f2e3d4c`` would be looked for among the candidates."""
    with Terminal("observe", "jobs", "--timeout", "300ms", "--endpoint", "127.0.0.1:1", folder=folder) as terminal:
        terminal.read_until(r"etcdleader observe#\w+: etcd request failed: 127\.0\.0\.1:1")
    assert "leader#" not in terminal.text.replace("etcdleader observe#", "")


# Terminals


def test_colours_are_for_terminals_and_not_where_no_color_is_set(folder: Path) -> None:
    with Terminal("check-config", folder=folder) as terminal:
        assert terminal.end() == 0
    assert "\x1b[" in terminal.raw
    with Terminal("check-config", folder=folder, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", terminal.raw)
    assert "***" in terminal.text
    assert "\x1b" not in run("check-config", folder=folder).stdout


# The page


def test_the_page_has_each_command_and_each_of_its_options(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    for command in COMMANDS:
        section = page.partition(f"## {command}\n")[2].partition("\n## ")[0]
        assert section, command
        options = set(re.findall(r"--[a-z-]+", run(command, "--help", folder=tmp_path).stdout.partition("Options")[2]))
        common = {"--help", "--settings", "--section", "--endpoint", "--json"}
        assert {option for option in options - common if f"`{option}" not in section} == set(), command
    for code in (0, 1, 2, 69, 75, 77, 78, 130):
        assert f"| {code} |" in page
