"""The thread that ends a process whose work outlives its lease."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import pytest

SCRIPT = """
import os, signal, time
from etcdleader._runtime.watchdog import watch

if CLOSED:
    os.close(2)
signal.alarm(50)  # a watchdog that waits for the reader keeps its lock, and this block would not be left
with watch(lambda: 0.0, lambda: "work outlived its lease"):
    time.sleep(60)
"""
OVERRUN = 70


@pytest.mark.parametrize("stderr", ["read", "full", "closed"])
def test_a_process_ends_whatever_its_stderr_is(stderr: str) -> None:
    """Another candidate leads soon. The work must end even if no process reads the reason."""
    reader, writer = os.pipe()
    if stderr == "full":
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
    script = SCRIPT.replace("CLOSED", str(stderr == "closed"))
    done = subprocess.run([sys.executable, "-c", script], stderr=writer, timeout=60, check=False)
    os.close(writer)
    said = os.read(reader, 1 << 20)
    os.close(reader)
    assert done.returncode == OVERRUN
    if stderr == "read":
        assert said == b"etcdleader: work outlived its lease; ending the process (status 70)\n"
