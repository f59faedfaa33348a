"""``etcdleader run`` as it is without an etcd: with election switched off the command runs at once."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdleader import Config, Term
from etcdleader._cli.run.settings import command_environment, make_manager, resolve_run, seconds_to_end
from etcdleader._cli.run.supervisor import descendants
from etcdleader._managers.noop_manager import NoopLeaderManager
from etcdleader._settings.sources import Overrides
from etcdleader.errors import ConfigError
from tests.helpers.run_command import line, run, run_after, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

# Exit statuses


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 128 + 9),
        (["no-such-command-here"], 127),
        (["/etc/hostname"], 126),
        (["--no-such-option", "true"], 2),
        (["--nowait", "--wait", "1s", "true"], 2),
        (["--wait", "soon", "true"], 2),
        (["--nowait", "--once", "true"], 2),
        (["--done", "v42", "sh", "-c", "exit 3"], 3),
        (["--done", "v42", "true"], 0),
        (["--done", "v42\n", "true"], 2),
        (["--done", "v42", "--restart", "true"], 2),
        (["--done", "v42", "--at-least", "1s", "true"], 2),
        (["--at-least", "0s", "true"], 2),
        (["--http", "8080", "true"], 2),
        ([], 2),
        (["--lease", "10s", "--margin", "9s", "true"], 78),
        (["--settings", "no-such.toml", "true"], 78),
        (["--election", "jobs\n", "true"], 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_exit_status_shows_what_happened(words: list[str], status: int, tmp_path: Path) -> None:
    assert run(*words, cwd=tmp_path).returncode == status


def test_a_command_that_cannot_be_started_is_reported_without_a_traceback(tmp_path: Path) -> None:
    """Here Python is gone, as it is while it is being upgraded."""
    done = run_after("import sys; sys.executable = '/no/such/python'", "true", cwd=tmp_path)
    assert done.returncode == 126
    assert "/no/such/python" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["a..b:80", "localhost:²", "203.0.113.1:80"])
def test_an_unavailable_address_is_reported_without_a_traceback(tmp_path: Path, address: str) -> None:
    done = run("--http", address, "true", cwd=tmp_path, COLUMNS="200")
    assert done.returncode in {2, 71}
    assert "--http" in done.stderr
    assert "Traceback" not in done.stderr
    assert "invalid literal" not in done.stderr


def test_what_follows_the_command_is_the_commands_with_and_without_a_dash(tmp_path: Path) -> None:
    for words in (["echo", "--help", "-n"], ["--", "echo", "--help", "-n"]):
        assert run(*words, cwd=tmp_path).stdout == "--help -n\n"


def test_help_lists_the_exit_statuses(tmp_path: Path) -> None:
    text = run("--help", cwd=tmp_path, COLUMNS="200").stdout
    for words in ("75   another candidate leads", "ETCDLEADER_TOKEN", "--on-lost", "Examples:"):
        assert words in text


def test_one_line_on_stderr_reports_that_it_leads(tmp_path: Path) -> None:
    assert run("true", cwd=tmp_path).stderr.splitlines()[-1] == "etcdleader: noop leads '' with token 0"


def test_json_lines_have_the_facts_as_fields(tmp_path: Path) -> None:
    line = json.loads(run("--log-format=json", "--election=jobs", "true", cwd=tmp_path).stderr.splitlines()[-1])
    assert (line["election"], line["token"], line["identity"], line["level"]) == ("jobs", 0, "noop", "info")


def test_each_json_line_names_its_election_and_candidate(tmp_path: Path) -> None:
    """Also those that the library logs without fields."""
    done = run("--log-format=json", "--verbose", "--election=jobs", "true", cwd=tmp_path)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    lines = [line for line in lines if "election is off: enabled" not in line["message"]]  # before there is a manager
    assert len(lines) > 1
    assert {(line["election"], line["identity"]) for line in lines} == {("jobs", "noop")}


# The environment


def a_term() -> Term:
    return Term(
        token=7,
        identity="a#1",
        election="jobs",
        key="jobs/1f",
        lease_id=31,
        elected_at=datetime.now(UTC),
        _lease_is_valid=lambda: True,
        _remaining=lambda: 1.0,
        _wait=lambda seconds: True,
        _guard=list,
        _transact=lambda success, failure: pytest.fail("not here"),
        _attach=lambda key, value: pytest.fail("not here"),
    )


def test_the_command_receives_its_term_and_no_password() -> None:
    variables = {
        "PATH": "/bin",
        "ETCDLEADER_LEADER__LEASE": "10s",
        "ETCDLEADER_ETCD__PASSWORD": "secret",
        "etcdleader_etcd__password": "secret",
        "ETCDLEADER_OTHER__TABLE__PASSWORD": "secret",
        "ETCDLEADER_ETCD": '{user = "me", password = "secret"}',
        "ETCDLEADER_TOKEN": "of an outer one",
    }
    assert command_environment(variables, a_term()) == {
        "PATH": "/bin",
        "ETCDLEADER_LEADER__LEASE": "10s",
        "ETCDLEADER_TOKEN": "7",
        "ETCDLEADER_ELECTION": "jobs",
        "ETCDLEADER_KEY": "jobs/1f",
        "ETCDLEADER_IDENTITY": "a#1",
        "ETCDLEADER_LEASE_ID": "31",
    }


def test_no_process_below_the_wrapper_has_the_password(tmp_path: Path) -> None:
    """The supervisor is one, too, and another user may be able to read it."""
    look = "tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/$PPID/environ; tr '\\0' ' ' </proc/$PPID/cmdline"
    done = run("sh", "-c", look, cwd=tmp_path, ETCDLEADER_ETCD__PASSWORD="not-for-you", ETCDLEADER_ETCD__USER="me")
    assert "ETCDLEADER_TOKEN=0" in done.stdout
    assert "supervisor.py" in done.stdout
    assert "not-for-you" not in done.stdout


# Settings


def test_the_command_line_overrides_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[sync.jobs]\nlease = "30s"\nid = "file"\nelection_key = "k"\n[etcd]\nendpoints = ["a:1"]\n')
    line = Overrides({"id": "line", "renew": "2s", "margin": None}, ["b:2", "c:3"], enabled_by_default=True)
    manager = make_manager(resolve_run(None, file, "sync.jobs", line))
    config = manager.config
    assert (manager.election_key, config.enabled, config.id, config.lease, config.renew) == ("k", True, "line", 30, 2)
    assert "'b:2', 'c:3'" in repr(manager._client)  # type: ignore[union-attr]


def test_a_wrong_value_names_the_option_that_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[leader]\n")
    with pytest.raises(ConfigError, match=r"lease = 'long': .* \[from --lease\]") as wrong:
        resolve_run("k", file, "leader", Overrides({"lease": "long"}, enabled_by_default=True))
    assert "etcd" in str(wrong.value)  # nothing shows where it is, and the command does not guess


@pytest.mark.parametrize(
    ("grace", "lead", "after"),
    [(0, 0, 0.75), (0.5, 0, 0.75), (10, 9.25, 0.75), (600, 32, 0.75)],
)
def test_the_grace_begins_so_early_that_it_fits_and_so_late_that_one_lost_answer_costs_nothing(
    grace: float, lead: float, after: float
) -> None:
    """With the default settings renewing may go on until 32 s before the deadline, and fail once."""
    assert seconds_to_end(NoopLeaderManager(Config(), "k"), grace) == (lead, after)


# Signals and processes


TRAPS = 'for s in TERM INT HUP USR1 USR2 WINCH; do trap "echo $s; test $s = USR2 && exit 9" $s; done; echo ready; '
WAIT = "while :; do sleep 0.01; done"


def test_signals_reach_the_command(tmp_path: Path) -> None:
    with running("sh", "-c", TRAPS + WAIT, cwd=tmp_path) as process:
        assert line(process) == "ready"
        for name in ("TERM", "INT", "HUP", "USR1", "WINCH", "USR2"):
            process.send_signal(signal.Signals[f"SIG{name}"])
            assert line(process) == name
        assert process.wait(timeout=60) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_ends_the_command_ends_the_wrapper(tmp_path: Path, number: signal.Signals) -> None:
    """With --restart, too: SIGTERM to the wrapper means the wrapper."""
    options = () if number is signal.SIGHUP else ("--restart",)
    with running(*options, "sh", "-c", "echo ready; exec sleep 100", cwd=tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number


def test_a_second_sigterm_applies_the_grace(tmp_path: Path) -> None:
    """A command that ignores SIGTERM would outlive any number of them."""
    script = "trap 'echo term' TERM; echo ready; while :; do sleep 0.01; done"
    with running("--grace=200ms", "--restart", "sh", "-c", script, cwd=tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "term"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGKILL


def test_one_sigterm_gives_the_command_all_the_time_it_needs(tmp_path: Path) -> None:
    """It may have a batch to finish, and renewals go on meanwhile."""
    script = "trap 'echo term' TERM; echo ready; until [ -e done ]; do sleep 0.01; done; exit 5"
    with running("--grace=0s", "sh", "-c", script, cwd=tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "term"
        (tmp_path / "done").touch()
        assert process.wait(timeout=60) == 5


def test_what_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """``nohup etcdleader run`` is for the command."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running("sh", "-c", "grep SigIgn /proc/self/status; read x", cwd=tmp_path) as process:
            mask = int(line(process).split()[1], 16)
    finally:
        signal.signal(signal.SIGHUP, handler)
    # And no others, such as those that Python and the supervisor ignore, except those that this process inherited.
    assert mask == _bit(signal.SIGHUP) | _ignored_here() & ~(_bit(signal.SIGPIPE) | _bit(signal.SIGXFSZ))


def _bit(number: int) -> int:
    return 1 << (number - 1)


def _ignored_here() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)


def test_what_the_command_leaves_behind_ends_before_the_wrapper(tmp_path: Path) -> None:
    """It would continue without leadership. It has its own session, and ignores SIGTERM."""
    script = "(trap '' TERM; exec setsid sh -c 'echo $$; >up; exec sleep 100') & until [ -e up ]; do :; done; exit 4"
    with running("--grace", "100ms", "sh", "-c", script, cwd=tmp_path) as process:
        pid = int(line(process))
        assert process.wait(timeout=60) == 4
        assert not Path(f"/proc/{pid}").exists()


def test_it_gets_sigterm_and_the_grace_first(tmp_path: Path) -> None:
    script = (
        "(trap 'echo cleaned; exit' TERM; echo up; >up; while :; do sleep 0.01; done) & until [ -e up ]; do :; done"
    )
    with running("--grace", "60s", "sh", "-c", script, cwd=tmp_path) as process:
        assert line(process) == "up"
        assert line(process) == "cleaned"
        assert process.wait(timeout=60) == 0


def test_the_command_does_not_outlive_a_wrapper_that_is_killed(tmp_path: Path) -> None:
    with running(
        "--grace=0s", "sh", "-c", "echo $$; trap '' TERM; while :; do sleep 0.01; done", cwd=tmp_path
    ) as process:
        pid = int(line(process))
        process.kill()
        gone(pid, within=60)


def test_the_command_dies_with_its_supervisor_and_the_wrapper_reports_it(tmp_path: Path) -> None:
    with running("sh", "-c", "setsid sh -c 'echo $$; exec sleep 100' & wait", cwd=tmp_path) as process:
        pid = int(line(process))
        supervisor = next(pid for pid in descendants(process.pid) if b"supervisor.py" in cmdline(pid))
        os.kill(supervisor, signal.SIGKILL)
        assert process.wait(timeout=60) == 70
        assert not Path(f"/proc/{pid}").exists()
        assert process.stderr is not None
        assert "supervisor of the command was killed" in process.stderr.read()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(pid: int, *, within: float) -> None:
    ends_at = time.monotonic() + within
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends_at, f"{pid} is still there"
        time.sleep(0.02)
