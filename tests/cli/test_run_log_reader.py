"""A reader of the log of ``etcdleader run`` that does not read."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.full_pipe import full_pipe
from tests.helpers.run_command import line, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


def test_a_reader_of_the_log_that_does_not_read_stops_nothing(tmp_path: Path) -> None:
    """A terminal after Ctrl-S, or a stuck log collector: a blocked write would stop renewals, supervision and signals."""
    with full_pipe() as (_, writer):
        # The shell has something to say itself when a signal ends its child.
        script = "exec 2>/dev/null; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
        words = ("--verbose", "sh", "-c", script)
        with running(*words, cwd=tmp_path, stderr=writer) as process:
            assert line(process) == "ready"
            process.send_signal(signal.SIGTERM)
            assert line(process) == "term"
            assert process.wait(timeout=60) == 3
