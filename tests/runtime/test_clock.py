"""The clocks of the operating system."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from etcdleader._runtime.clock import Clock, boottime


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no CLOCK_BOOTTIME here")
def test_the_clock_is_the_one_that_counts_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that never slept it shows the same as the others, so the question itself is looked at."""
    monkeypatch.setattr(time, "clock_gettime", float)
    assert boottime() == time.CLOCK_BOOTTIME


def test_where_there_is_none_the_best_monotonic_one_is_used() -> None:
    """Linux is the first platform, and not the only one."""
    script = "import time; del time.CLOCK_BOOTTIME; from etcdleader._runtime.clock import boottime; print(boottime())"
    before = time.monotonic()
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert before <= float(shown.stdout) <= time.monotonic()


def test_two_clocks_are_equal_if_the_same_function_reads_them() -> None:
    """A user's function may be unhashable, or equal to another one that shows another time."""

    class Reader:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self) -> float:
            return 1.0

    reader, other = Reader(), Reader()
    assert {Clock(reader): "kept"}[Clock(reader)] == "kept"
    assert Clock(reader) != Clock(other)
    assert Clock(reader).now() == 1.0
