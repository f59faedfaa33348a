"""An interruption, such as Ctrl-C, at any line of the code around a thread's block: leadership is not held forever."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio
import pytest

from etcdleader import Config, LeadershipLostError, LossReason, NoopLeaderManager, Term
from etcdleader._managers import steps, thread_bridge
from etcdleader.blocking import BlockingLeaderManager

PATIENCE = 60
FILES = {thread_bridge.__file__, steps.__file__, sys.modules[BlockingLeaderManager.__module__].__file__}
MOST = 400
"""More lines than any of these blocks has; each test checks that."""


class Interruption(BaseException):
    """Raised like KeyboardInterrupt, in whatever line runs."""


class Interrupter:
    """Raises in the given line, counted from 1, of the library's code that this thread runs, or of one function of it."""

    def __init__(self, line: int, function: str | None = None) -> None:
        self.left = line
        self.function = function
        self.where = ""

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        del argument
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and self.function in (None, frame.f_code.co_qualname):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise Interruption
        return self.trace


def interrupted(block: Callable[[], object], line: int, function: str | None = None) -> str | None:
    """Interrupt the block in a line. Return where, or None if it has fewer lines."""
    interrupter = Interrupter(line, function)
    before = sys.gettrace()
    sys.settrace(interrupter.trace)
    try:
        block()
    except Interruption:
        pass
    finally:
        sys.settrace(before)
    return interrupter.where or None


def hanging_line(block: Callable[[BlockingLeaderManager], object], *, within: bool) -> str | None:
    """Interrupt the block in each of its lines, with a new manager each time. Return the first where the process hangs."""
    for line in range(1, MOST):
        blocking = BlockingLeaderManager(NoopLeaderManager(Config(retry=0.01), f"jobs-{line}"))
        where: list[str | None] = []

        def use(blocking: BlockingLeaderManager = blocking, line: int = line, where: list[str | None] = where) -> None:
            if within:
                with blocking:
                    blocking.wait_elected(PATIENCE)
                    where.append(interrupted(lambda: block(blocking), line))
            else:
                where.append(interrupted(lambda: block(blocking), line))

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            return where[0] if where else f"line {line}"
        if where == [None]:
            return None
    raise AssertionError("the block has more lines than the test expects")


def lead(blocking: BlockingLeaderManager) -> None:
    with blocking.leading(PATIENCE):
        pass


def step(blocking: BlockingLeaderManager) -> None:
    with blocking.step():
        pass


def run(blocking: BlockingLeaderManager) -> None:
    blocking.run(lambda term: None)


def campaign(blocking: BlockingLeaderManager) -> None:
    with blocking:
        blocking.wait_elected(PATIENCE)


@pytest.mark.parametrize(("block", "within"), [(lead, True), (step, True), (run, False), (campaign, False)])
def test_an_interruption_in_any_line_leaves_nothing_that_holds_leadership(
    block: Callable[[BlockingLeaderManager], object], within: bool
) -> None:
    assert hanging_line(block, within=within) is None


@pytest.mark.parametrize(("block", "function"), [(lead, "HeldBlock._request_end"), (step, "TermStep._end")])
def test_an_interrupted_end_of_a_block_is_repeated_at_once(
    block: Callable[[BlockingLeaderManager], object], function: str
) -> None:
    """Leadership is not held until the thread leaves the campaign's block, which may be hours later."""
    for line in range(1, MOST):
        blocking = BlockingLeaderManager(NoopLeaderManager(Config(retry=0.01), f"jobs-{line}"))
        with blocking:
            blocking.wait_elected(PATIENCE)
            where = interrupted(lambda blocking=blocking: block(blocking), line, function)  # type: ignore[misc]
            stop = threading.Thread(target=blocking.stop, daemon=True)
            stop.start()
            stop.join(PATIENCE)
            assert not stop.is_alive(), where
        if where is None:
            assert line > 3
            return
    raise AssertionError("the function has more lines than the test expects")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_work_ends_the_campaign_without_an_error(
    interruption: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    blocking = BlockingLeaderManager(NoopLeaderManager(Config(retry=0.01), "jobs"))
    terms: list[Term] = []

    def work(term: Term) -> None:
        terms.append(term)
        raise interruption

    with caplog.at_level(logging.WARNING, "etcdleader"), pytest.raises(interruption):
        blocking.run(work)
    assert [term.loss_reason for term in terms] == [LossReason.STOPPED]
    assert caplog.messages == []


@pytest.mark.parametrize("inside", ["step", "leading"])
def test_the_end_of_the_campaign_inside_a_block_of_this_thread_is_only_requested(inside: str) -> None:
    """A framework may close what an application opened from a signal handler, in the middle of the block."""
    blocking = BlockingLeaderManager(NoopLeaderManager(Config(retry=0.01), "jobs"))
    blocking.__enter__()
    blocking.wait_elected(PATIENCE)
    with suppress(LeadershipLostError), blocking.step() if inside == "step" else blocking.leading() as term:
        assert term is not None
        blocking.__exit__(None, None, None)
        with pytest.raises(anyio.BusyResourceError):
            blocking.__enter__()  # the campaign waits for the end of this block
    blocking.stop()
    with blocking:
        assert blocking.wait_elected(PATIENCE) is not term
