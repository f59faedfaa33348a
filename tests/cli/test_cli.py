"""The command, as it is without an etcd."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest


def etcdleader(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etcdleader", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_the_commands() -> None:
    """It is the first thing that is typed."""
    done = etcdleader("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout


@pytest.mark.parametrize("command", ["", "run", "status", "observe", "step-down", "doctor", "check-config", "demo"])
def test_help_has_a_short_option(command: str) -> None:
    """It is what most programs take."""
    long, short = (etcdleader(*command.split(), option, COLUMNS="100") for option in ("--help", "-h"))
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert "Usage:" in short.stdout


def test_version_is_that_of_the_package() -> None:
    """A report of a fault begins with it."""
    try:
        expected = version("etcdleader")
    except PackageNotFoundError:
        pytest.skip("etcdleader is on the path, but not installed")
    done = etcdleader("--version")
    assert (done.returncode, done.stdout) == (0, f"etcdleader {expected}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    """1 would mean that the answer is no."""
    (tmp_path / "settings.toml").write_text(
        '[leader]\nenabled = true\nelection_key = "k"\n[etcd]\nendpoints = ["a:1"]\n'
    )
    for options in ((), ("--json",)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "etcdleader", "check-config", *options],
                cwd=tmp_path,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert (done.returncode, done.stderr.count("\n")) == (74, 1), done.stderr


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_closed_standard_streams_are_as_good_as_dev_null(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """A program that starts daemons may close them. A socket that is opened then must not become standard output."""
    (tmp_path / "settings.toml").write_text('[leader]\nenabled = false\n[etcd]\nendpoints = ["a:1"]\n')
    redirections = " ".join(f"{fd}>&-" for fd in closed)
    for words, status in (("check-config", 0), ("run -- sh -c ': <&0 >&1 2>&2 && exit 9'", 9)):
        line = f"{shlex.quote(sys.executable)} -m etcdleader {words} {redirections}"
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, timeout=60, check=False)
        assert done.returncode == status


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_prints_how_to_install_it(missing: str) -> None:
    """The library is installed without it, but the command is installed, too."""
    script = f"import sys; sys.modules[{missing!r}] = None; from etcdleader._cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'etcdleader[cli]'" in done.stderr


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    """If the extra is installed, no message may ask the user to install it."""
    script = "import sys; sys.modules['etcdleader._cli.status'] = None; from etcdleader._cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_a_demo_without_an_etcd_reports_it_in_one_line() -> None:
    """The extra that brings etcd is optional, too."""
    done = etcdleader("demo", ETCD_BINARY="/no/such/etcd")
    assert done.returncode == 1
    assert done.stderr == "The demo failed: no etcd to run at '/no/such/etcd'\n"
