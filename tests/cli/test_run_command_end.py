"""The line that ``etcdleader run`` logs when its command has ended."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdleader._cli.run.command_end import log_end
from tests.helpers.run_command import line, run, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


def logged(process: subprocess.Popen[str]) -> str:
    """The first line about the end of the command."""
    assert process.stderr is not None
    return next(text.strip() for text in process.stderr if "the command has ended" in text)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", "warning: the command has ended with status 3"),
        ("kill -9 $$", "warning: the command has ended by signal 9 (SIGKILL)"),
        ("exit 0", "the command has ended with status 0"),
    ],
)
def test_with_restart_each_end_is_logged_with_the_time_of_the_next_campaign(
    script: str, expected: str, tmp_path: Path
) -> None:
    """The wrapper goes on, so its exit status does not report the failure."""
    with running("--restart", "--retry=200ms", "sh", "-c", script, cwd=tmp_path) as process:
        for _ in range(2):
            assert logged(process) == f"etcdleader: {expected}; campaigning again in 0.2 s"


def test_the_time_of_the_next_campaign_includes_that_for_which_leadership_is_kept(tmp_path: Path) -> None:
    with running("--restart", "--at-least=1000s", "false", cwd=tmp_path) as process:
        (seconds,) = re.findall(r"with status 1; campaigning again in (\d+\.\d) s", logged(process))
    assert 900 < float(seconds) <= 1005


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_that_was_requested_is_no_warning(number: signal.Signals, tmp_path: Path) -> None:
    with running("--restart", "sh", "-c", "echo ready; exec sleep 100", cwd=tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert logged(process) == f"etcdleader: the command has ended by signal {number:d} ({number.name})"
        assert process.wait(timeout=60) == 128 + number


def test_without_restart_the_exit_status_reports_the_failure(tmp_path: Path) -> None:
    done = run("sh", "-c", "exit 3", cwd=tmp_path)
    assert done.returncode == 3
    assert "has ended" not in done.stderr


@pytest.mark.parametrize(
    ("why", "status", "level"),
    [
        ("ended", 3, logging.WARNING),
        ("ended", 0, logging.INFO),
        ("requested", -9, logging.INFO),
        ("deadline", -15, logging.INFO),
        (None, None, None),
    ],
)
def test_a_command_that_ended_because_of_a_loss_has_not_failed(
    why: str | None, status: int | None, level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    child: Any = SimpleNamespace(why=why, status=status)
    with caplog.at_level(logging.INFO, "etcdleader.run"):
        log_end(child, requested=False, then="")
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])


def test_a_signal_without_a_name_is_a_number(caplog: pytest.LogCaptureFixture) -> None:
    child: Any = SimpleNamespace(why="ended", status=-40)
    log_end(child, requested=False, then="")
    assert caplog.messages == ["the command has ended by signal 40"]


# --done


def test_a_failure_of_work_that_is_done_once_is_a_warning_in_plain_words(tmp_path: Path) -> None:
    done = run("--done=v42", "sh", "-c", "exit 3", cwd=tmp_path)
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last == "etcdleader: warning: the command has ended with status 3; it is not recorded as done"


@pytest.mark.parametrize("script", ["exec sleep 100", "trap 'exit 0' TERM; while :; do sleep 0.01; done"])
def test_a_requested_stop_of_work_that_is_done_once_is_no_error(script: str, tmp_path: Path) -> None:
    """It must not alert an operator, whatever the command makes of the signal."""
    with running("--done=v42", "sh", "-c", f"echo ready; {script}", cwd=tmp_path) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert re.fullmatch(r"etcdleader: the command has ended .*; it is not recorded as done", lines[-1])
    assert [text for text in lines if "error" in text] == []


def test_work_that_is_done_leaves_no_line_about_its_end(tmp_path: Path) -> None:
    assert "has ended" not in run("--done=v42", "true", cwd=tmp_path).stderr
