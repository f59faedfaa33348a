"""The systemd unit: it has the documented exit statuses, gives enough time to end, and systemd reads it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from etcdleader import Config
from etcdleader._values.durations import parse_duration
from tests.deploy.deployed import DEPLOY, ROOT, TO_END, parsed_run

UNIT = DEPLOY / "etcdleader@.service"
PROGRAM = "/usr/local/bin/etcdleader"
RETRY = Config(enabled=True).retry


@pytest.fixture
def service() -> dict[str, str]:
    """Its section [Service], as for the election nightly."""
    parser = ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(UNIT.read_text().replace("%i", "nightly"))
    assert parser.sections() == ["Unit", "Service", "Install"]
    return dict(parser["Service"])


def documented_statuses() -> dict[int, str]:
    """Return the wrapper's own exit statuses, and the text of docs/run.md about each."""
    page = (ROOT / "docs/run.md").read_text()
    table = page.partition("## Exit status")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", table, re.MULTILINE)
    return {int(status): text for statuses, text in rows for status in statuses.split(",")}


def variables() -> dict[str, str]:
    """Return the file of variables that its first lines show."""
    return dict(re.findall(r"^# +(?:\S+\.env +)?([A-Z]+)=(.*)$", UNIT.read_text(), re.MULTILINE))


def test_it_restarts_what_can_get_better_and_nothing_else(service: dict[str, str]) -> None:
    """The command's own status is never one of the wrapper's, so that the two are distinct."""
    documented = documented_statuses()
    assert len(documented) >= 8
    mended = {status for status, text in documented.items() if "--nowait" in text or "a restart may fix this" in text}
    prevented = {int(status) for status in service["RestartPreventExitStatus"].split()}
    assert prevented == documented.keys() - mended
    assert service["Restart"] == "always"
    assert int(service["SuccessExitStatus"]) == 128 + signal.SIGTERM
    assert "--restart" in service["ExecStart"].split(" -- ")[0].split()
    assert not {"--nowait", "--wait"} & set(service["ExecStart"].split())


def test_the_command_line_is_one_and_finds_its_files(service: dict[str, str]) -> None:
    shown = variables()
    line = service["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", "/run/credentials")
    line = line.replace("$OPTIONS", shown["OPTIONS"]).replace("$COMMAND", shown["COMMAND"])
    program, *words = line.split()
    assert program == PROGRAM
    run = parsed_run(words)
    credential, file = service["LoadCredential"].split(":")
    assert run["settings"] == Path("/run/credentials") / credential
    assert run["election"] == "nightly"
    assert run["command"] == shown["COMMAND"].split()
    header = UNIT.read_text().partition("[Unit]")[0]
    assert file in header.split()
    assert service["EnvironmentFile"] in header.split()
    assert service["WorkingDirectory"] == f"%S/{service['StateDirectory']}"


def test_it_gives_the_command_its_grace_and_then_the_wrapper_time_to_release_leadership(
    service: dict[str, str],
) -> None:
    run = parsed_run(["run", *variables()["OPTIONS"].split(), "--", "true"])
    grace = run["grace"] * (2 if run["on_lost"] else 1)
    assert parse_duration(service["TimeoutStopSec"]) >= TO_END + grace + 2 * RETRY
    assert parse_duration(service["RestartSec"]) == RETRY
    assert service["KillMode"] == "mixed"  # what the wrapper is to end, systemd must not end before it
    assert "WatchdogSec" not in service  # no process would send what it waits for
    assert service["Type"] == "exec"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there (Debian: systemd)")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    """It finds fault with what is not there, too; so here another program is. What it says of other units is theirs."""
    text = UNIT.read_text()
    assert text.count(PROGRAM) == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(PROGRAM, shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "etcdleader@nightly.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line for line in (done.stdout + done.stderr).splitlines() if "etcdleader@" in line] == []
    assert done.returncode == 0
