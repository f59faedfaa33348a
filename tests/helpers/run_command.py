"""``etcdleader run`` as a separate process, with election switched off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etcdleader._cli.run.supervisor import descendants
from tests.helpers.python_process import Python, run_python

__all__ = ("OFF", "line", "run", "run_after", "running")

OFF = {**os.environ, "ETCDLEADER_LEADER__ENABLED": "false"}
RUN = [sys.executable, "-m", "etcdleader", "run"]


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_python([*RUN, *words], cwd, {**OFF, **environment}, seconds=60)


def run_after(script: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate interpreter that a script has changed before."""
    return subprocess.run(
        [sys.executable, "-c", f"{script}; from etcdleader._cli import main; main()", "run", *words],
        env=OFF,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(
    *words: str, cwd: Path, stderr: int = subprocess.PIPE, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    process = Python(
        [*RUN, *words], env={**OFF, **environment}, cwd=cwd, stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    try:
        yield process
    finally:
        left = [process.pid, *descendants(process.pid)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
