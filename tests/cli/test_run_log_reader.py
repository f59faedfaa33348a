"""A reader of the log of ``etcdleader run`` that does not read."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.run_command import line, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes nothing more, until it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


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
