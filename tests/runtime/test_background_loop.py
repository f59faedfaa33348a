"""Waits of threads for the background loop."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from etcdleader._runtime.background_loop import SIGNAL_CHECK_SECONDS, result_of, wait_for


class RecordedFuture(Future[int]):
    """Is done after three waits, and records how long each may last."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def exception(self, timeout: float | None = None) -> Any:
        self.timeouts.append(timeout)
        if len(self.timeouts) < 3:
            raise TimeoutError
        self.set_result(7)


def test_a_wait_without_a_limit_ends_often_so_that_python_handles_signals() -> None:
    """A signal that arrives just before a wait is handled at its end. Ctrl-C would be lost in an endless one."""
    for wait in (result_of, lambda future: wait_for(future, None, "a call")):
        future = RecordedFuture()
        assert wait(future) == 7
        assert future.timeouts == [SIGNAL_CHECK_SECONDS] * 3


def test_a_long_wait_ends_often_and_at_its_limit() -> None:
    future = RecordedFuture()
    assert wait_for(future, 3600, "a call") == 7
    assert future.timeouts == [SIGNAL_CHECK_SECONDS] * 3
    never: Future[int] = Future()
    with pytest.raises(TimeoutError, match=r"a call took longer than 0\.01 s"):
        wait_for(never, 0.01, "a call")
    assert never.cancelled()
