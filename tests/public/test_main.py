"""``manager.main(work)``: the whole program in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from etcdleader import LossReason, NoopLeaderManager, Term
from etcdleader._runtime.events import running_trio

BACKENDS = ("asyncio", "trio")
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Boom(Exception):
    """Of the user."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """Whatever a test does, the next one has the handlers of before."""
    before = handlers_now()
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers_now() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_returns_what_work_returned_and_restores_the_handlers(backend: Any, handlers: dict[int, Any]) -> None:
    async def work(term: Term) -> tuple[bool, bool]:
        return running_trio() is not None, handlers_now() != handlers

    assert NoopLeaderManager().main(lambda term: term.identity, backend=backend) == "noop"
    assert NoopLeaderManager().main(work, backend=backend) == (backend == "trio", True)
    assert handlers_now() == handlers


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_of_the_work_comes_out_and_the_handlers_are_restored(
    backend: Any, handlers: dict[int, Any]
) -> None:
    def work(term: Term) -> None:
        raise Boom

    with pytest.raises(Boom):
        NoopLeaderManager().main(work, backend=backend)
    assert handlers_now() == handlers


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_signal_ends_the_work_and_then_the_process_with_its_status(
    backend: Any, number: signal.Signals, kind: str
) -> None:
    manager, events = NoopLeaderManager(), list[object]()
    manager.on_ousted(lambda manager, term: events.append(term.loss_reason))

    def in_a_thread(term: Term) -> str:
        os.kill(os.getpid(), number)
        events.append(term.wait(60))
        return "too late"

    async def on_the_loop(term: Term) -> str:
        os.kill(os.getpid(), number)
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            events.append(False)
            raise
        return "never"

    with pytest.raises(SystemExit) as ended:
        manager.main(in_a_thread if kind == "thread" else on_the_loop, backend=backend)
    assert ended.value.code == 128 + number
    assert events == [False, LossReason.STOPPED]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_signal_that_another_thread_receives_is_handled_at_once(backend: Any) -> None:
    """The system may choose any thread, but Python runs handlers in the main one, where the loop sleeps."""

    def work(term: Term) -> bool:
        time.sleep(0.2)  # the loop sleeps by then; if not, the test passes for another reason
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        noticed.append(not term.wait(60))
        return False

    noticed: list[bool] = []
    with pytest.raises(SystemExit):
        NoopLeaderManager().main(work, backend=backend)
    assert noticed == [True]


def test_the_loop_is_woken_by_signals_only_while_main_runs() -> None:
    def work(term: Term) -> None:
        """Nothing."""

    NoopLeaderManager().main(work)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup, and in the background of a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def work(term: Term) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    assert NoopLeaderManager().main(work) is True


def test_a_step_delays_the_end_that_a_signal_requests() -> None:
    manager, valid = NoopLeaderManager(), list[bool]()

    def work(term: Term) -> None:
        with manager.step():
            os.kill(os.getpid(), signal.SIGTERM)
            valid.append(term.wait(0.2))
        valid.append(term.wait(60))

    with pytest.raises(SystemExit):
        manager.main(work)
    assert valid == [True, False]


@pytest.mark.anyio
async def test_in_a_running_loop_it_is_refused_with_what_to_call_instead(anyio_backend: object) -> None:
    with pytest.raises(RuntimeError, match=r"await manager\.run\(work\)"):
        NoopLeaderManager().main(print)


@pytest.mark.anyio
async def test_outside_the_main_thread_it_is_refused_with_what_to_call_instead(anyio_backend: object) -> None:
    with pytest.raises(RuntimeError, match=r"anyio\.run\(manager\.run, work\)"):
        await anyio.to_thread.run_sync(NoopLeaderManager().main, print)


def test_work_that_cannot_be_called_is_refused_before_anything_else(handlers: dict[int, Any]) -> None:
    with pytest.raises(TypeError, match=r"^main\(\) "):
        NoopLeaderManager().main(lambda: None)  # type: ignore[misc, arg-type]
    assert handlers_now() == handlers


PROGRAM = """
    import os, signal, sys, time
    from etcdleader import NoopLeaderManager

    def endless(term):
        print("works", flush=True)
        term.wait(60)
        print("ends", flush=True)
        time.sleep(60)

    def forks(term):
        if (pid := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

    async def blocks(term):
        print("works", flush=True)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.01)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent ignores
    NoopLeaderManager().main(globals()[sys.argv[1]], backend=sys.argv[2])
"""


def start(name: str, backend: str) -> subprocess.Popen[str]:
    # Python 3.12 and later warn of a fork in a process with several threads, even if the child touches none of them.
    return subprocess.Popen(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", textwrap.dedent(PROGRAM), name, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, backend: str) -> None:
    """Here the work does not end."""
    with start("endless", backend) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "ends\n"
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 128 + number


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_signal_ends_a_process_whose_loop_is_blocked(backend: str) -> None:
    with start("blocks", backend) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # two that are sent together may arrive as one
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_to_a_forked_child_ends_the_child_as_without_main() -> None:
    with start("forks", "asyncio") as process:
        assert process.communicate(timeout=30) == (f"{-signal.SIGTERM}\n", "")
        assert process.returncode == 0
