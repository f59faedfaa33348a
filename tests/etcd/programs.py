"""Programs in separate processes, given as text, that report their progress line by line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.python_process import Python

__all__ = ("line", "python")

_ENDING_SECONDS = 10.0


@contextmanager
def python(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run it, and end it with the block."""
    process = Python(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    if printed := process.stdout.readline():
        return printed.strip()
    _, errors = process.communicate(timeout=_ENDING_SECONDS)
    raise AssertionError(f"it has ended, with {process.returncode}: {errors}")
