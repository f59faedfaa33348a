"""The command, as it is without an etcd."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

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


def test_version_is_that_of_the_package() -> None:
    """A report of a fault begins with it."""
    try:
        expected = version("etcdleader")
    except PackageNotFoundError:
        pytest.skip("etcdleader is on the path, but not installed")
    done = etcdleader("--version")
    assert (done.returncode, done.stdout) == (0, f"etcdleader {expected}\n")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_how_to_install_it(missing: str) -> None:
    """The library is installed without it, and the command comes along all the same."""
    script = f"import sys; sys.modules[{missing!r}] = None; from etcdleader._cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'etcdleader[cli]'" in done.stderr


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    """Whoever has the extra must not be told to install it."""
    script = "import sys; sys.modules['etcdleader.testing'] = None; from etcdleader._cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_a_demo_without_an_etcd_says_so_in_one_line() -> None:
    """The extra that brings etcd is optional, too."""
    done = etcdleader("demo", ETCD_BINARY="/no/such/etcd")
    assert done.returncode == 1
    assert done.stderr == "The demo failed: no etcd to run at '/no/such/etcd'\n"
