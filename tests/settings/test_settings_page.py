"""The example of docs/settings.md runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from etcdleader._settings import sources
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def run_example(environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    assert list(FILES) == ["settings.toml", "job.py"]
    (cwd / "settings.toml").write_text(FILES["settings.toml"])
    shown = "\nconfig = manager.config\nprint(config.enabled, config.lease, config.renew, manager._client.endpoints)\n"
    (cwd / "job.py").write_text(FILES["job.py"] + shown)
    return subprocess.run(
        [sys.executable, "-W", "error", "job.py"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("production", "True 30.0 10.0 ('etcd-1.example.org:2379', 'etcd-2.example.org:2379')"),
        ("staging", "True 60.0 10.0 ('127.0.0.1:2379',)"),
    ],
)
def test_environments_work_through_an_object_of_the_application(environment: str, expected: str, cwd: Path) -> None:
    done = run_example({"ENV_FOR_DYNACONF": environment}, cwd)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("environment", "named"), [({}, "development"), ({"ENV_FOR_DYNACONF": "porduction"}, "porduction")]
)
def test_a_process_of_the_example_fails_in_an_environment_without_tables(
    environment: dict[str, str], named: str, cwd: Path
) -> None:
    """dynaconf would read [default] only, and the process would lead beside the one of another environment."""
    done = run_example(environment, cwd)
    assert done.returncode == 1
    assert "leader.enabled is missing" in done.stderr
    assert f"environment {named!r}" in done.stderr


def test_the_page_lists_the_places_in_their_order() -> None:
    listed = re.findall(r"^\d\. `(\S+toml)`", PAGE, re.MULTILINE)
    assert [*listed, *(f"config/{name}" for name in listed)] == list(sources._FILES)
