"""``etcdleader run --done`` and ``--at-least`` on a real etcd: once for all, and for some time at least."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.wrapped_commands import Wrapper, until, wrapped

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

LONG = ("--lease=60s", "--renew=1s", "--retry=2s", "--grace=500ms")
"""A lease that does not run out while a test runs."""
SHORT = ("--lease=5s", "--renew=500ms", "--retry=500ms", "--grace=500ms")
DONE = "--done=v42"
PATIENT = ("--lease=60s", "--renew=1s", "--retry=20s")
"""For ``--nowait``, which gives up after ``retry``: a busy machine may need longer than half a second."""
PATIENCE = 60


class Stage:
    """Wrappers of one election, whose commands write lines into one file."""

    def __init__(self, server: EtcdServer, election_key: str, operator: Any, folder: Path, stack: ExitStack) -> None:
        self.trace = folder / "trace"
        self.trace.touch()
        self._server = server
        self._election_key = election_key
        self._operator = operator
        self._stack = stack

    def start(self, name: str, script: str, *options: str) -> Wrapper:
        words = ("sh", "-c", f"echo {name} >> {self.trace}; {script}")
        endpoint = self._server.endpoints[0]
        return self._stack.enter_context(wrapped(name, endpoint, self._election_key, *words, options=options))

    def lines(self) -> list[str]:
        return self.trace.read_text().split()

    def recorded(self) -> bool:
        return self._operator.get(f"{self._election_key}@done/v42")[0] is not None

    def candidates(self) -> list[str]:
        return [value.decode().partition("#")[0] for value, _ in self._operator.get_prefix(f"{self._election_key}/")]


@pytest.fixture
def stage(etcd_server: EtcdServer, election_key: str, operator: Any, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(etcd_server, election_key, operator, tmp_path, stack)


def status(wrapper: Wrapper) -> int:
    try:
        return wrapper.process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError("it does not end") from None


def test_one_does_it_and_all_exit_with_0(stage: Stage) -> None:
    wrappers = [stage.start(name, "sleep 1", *LONG, DONE) for name in ("a", "b", "c")]
    assert [status(wrapper) for wrapper in wrappers] == [0, 0, 0]
    assert len(stage.lines()) == 1
    assert stage.recorded()
    assert stage.candidates() == []
    assert status(stage.start("late", "true", *LONG, DONE)) == 0
    assert status(stage.start("later", "true", *PATIENT, DONE, "--nowait")) == 0
    assert len(stage.lines()) == 1


def test_a_failure_is_the_status_and_the_next_one_does_it(stage: Stage) -> None:
    a = stage.start("a", "sleep 1; exit 3", *LONG, DONE)
    until(lambda: stage.lines() == ["a"])
    b = stage.start("b", "true", *LONG, DONE)
    assert status(a) == 3
    assert status(b) == 0
    assert stage.lines() == ["a", "b"]
    assert stage.recorded()


def test_one_that_is_killed_in_the_middle_is_followed_by_one_that_does_it(stage: Stage) -> None:
    a = stage.start("a", "sleep 600", *SHORT, DONE)
    until(lambda: stage.lines() == ["a"])
    b = stage.start("b", "true", *LONG, DONE)
    until(lambda: sorted(stage.candidates()) == ["a", "b"])
    assert not stage.recorded()
    a.process.kill()
    assert status(b) == 0
    assert stage.lines() == ["a", "b"]


def test_a_command_that_a_signal_ends_is_not_done_whatever_its_status(stage: Stage) -> None:
    a = stage.start(
        "a", f"trap 'exit 0' TERM; echo trapped >> {stage.trace}; while :; do sleep 0.02; done", *LONG, DONE
    )
    until(lambda: stage.lines() == ["a", "trapped"])
    a.process.send_signal(signal.SIGTERM)
    assert status(a) == 128 + signal.SIGTERM
    assert not stage.recorded()


def test_a_command_whose_leadership_was_lost_is_done_again(stage: Stage) -> None:
    a = stage.start("a", "test $(wc -l < $0) -gt 1 || sleep 600".replace("$0", str(stage.trace)), *LONG, DONE)
    until(lambda: stage.lines() == ["a"])
    (key,) = [about.key for _, about in stage._operator.get_prefix(f"{stage._election_key}/")]
    stage._operator.delete(key)
    assert status(a) == 0
    assert stage.lines() == ["a", "a"]
    assert stage.recorded()


def wait_until_kept(wrapper: Wrapper) -> None:
    assert wrapper.process.stderr is not None
    while "leadership is kept" not in wrapper.process.stderr.readline():
        assert wrapper.process.poll() is None


def test_leadership_is_kept_after_the_command(stage: Stage) -> None:
    """For longer than its lease: the wrapper renews it."""
    wait_until_kept(stage.start("a", "exit 3", *SHORT, "--at-least=600s"))
    kept_since = time.monotonic()
    while time.monotonic() < kept_since + 8:
        assert stage.candidates() == ["a"]
        time.sleep(0.1)
    b = stage.start("b", "true", *PATIENT, "--nowait")
    assert status(b) == 75
    assert stage.lines() == ["a"]


def test_leadership_is_released_after_the_time_with_the_status_of_the_command(stage: Stage) -> None:
    began_at = time.monotonic()
    a = stage.start("a", "exit 3", *LONG, "--at-least=3s")
    assert status(a) == 3
    assert time.monotonic() - began_at >= 3
    assert stage.candidates() == []


def test_a_signal_ends_the_wait_with_the_status_of_the_command(stage: Stage) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        a = stage.start("a", "exit 3", *LONG, "--at-least=600s")
        wait_until_kept(a)
        assert stage.candidates() == ["a"]
        a.process.send_signal(number)
        assert status(a) == 3
        assert stage.candidates() == []
