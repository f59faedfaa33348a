"""``etcdleader run`` in a terminal: what is typed goes to the command, and job control works as without the wrapper."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from etcdleader._cli.run.supervisor import descendants

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

RUN = shlex.join([sys.executable, "-m", "etcdleader", "run"])
PYTHON = shlex.join([sys.executable, "-q", "-i"])
PATIENCE = 60.0


class Screen:
    """A shell in a separate terminal, and the terminal's output."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def enter(self, line: str, *, shows: str) -> None:
        """Type a line, and wait for what comes of it."""
        self.type(f"{line}\n")
        self.wait_for(shows)

    def wait_for(self, text: str) -> None:
        """Wait until it is shown, after what was waited for before."""
        ends_at = time.monotonic() + PATIENCE
        while text not in self._shown:
            assert time.monotonic() < ends_at, f"waited for {text!r}, and there is {self._shown!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._shown += os.read(self._fd, 65536).decode(errors="replace")
        self._shown = self._shown.partition(text)[2]


@contextmanager
def shell(cwd: Path) -> Iterator[Screen]:
    """One with job control. What is typed is shown, too: so the tests wait for what is computed only."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
        environment |= {"ETCDLEADER_LEADER__ENABLED": "false", "PS1": "", "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
    screen = Screen(pid, fd)
    try:
        yield screen
    finally:
        for each in (*descendants(pid), pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def test_an_interactive_program_has_the_terminal_and_ctrl_c_is_for_it(tmp_path: Path) -> None:
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} -- {PYTHON}", shows=">>> ")
        screen.enter("import os; print('in front:', os.tcgetpgrp(0) == os.getpgrp())", shows="in front: True")
        # Not one long sleep: a signal that comes just before it begins does not interrupt it.
        screen.enter(
            "import time; print('sl' + 'eeps', flush=True); [time.sleep(0.1) for _ in range(9999)]", shows="sleeps"
        )
        screen.type("\x03")
        screen.wait_for("KeyboardInterrupt")
        screen.wait_for(">>> ")
        screen.type("raise SystemExit(40 + 2)\n")
        screen.enter("echo status $?", shows="status 42")


def test_ctrl_c_ends_a_command_that_does_not_mind_it(tmp_path: Path) -> None:
    """A shell's loop around it can check the status."""
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} -- sh -c 'echo $((40+2)); exec sleep 1000'", shows="42")
        screen.type("\x03")
        screen.enter("echo status $?", shows="status 130")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exec sleep 1000", 130), ("trap 'exit 130' INT; while :; do sleep 0.01; done", 130)],
    ids=["killed", "exits"],
)
def test_ctrl_c_ends_a_wrapper_that_restarts_its_command(tmp_path: Path, script: str, status: int) -> None:
    """The command has the terminal, so the wrapper gets no SIGINT. No key would end it."""
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} --restart -- sh -c 'echo $((40+2)); {script.replace(chr(39), chr(34))}'", shows="42")
        screen.type("\x03")
        screen.enter("echo status $?", shows=f"status {status}")


def test_a_sigint_of_another_process_does_not_end_a_wrapper_that_restarts_its_command(tmp_path: Path) -> None:
    """Only the keyboard speaks to both."""
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} --restart -- sh -c 'echo $((40+2)); kill -INT $$' </dev/null", shows="42")
        screen.wait_for("42")
        screen.type("\x03")


def test_the_terminal_is_given_back_as_it_was(tmp_path: Path) -> None:
    """Also by a command that is killed in the midst of changing it."""
    with shell(tmp_path) as screen:
        screen.type("stty -a >before\n")
        screen.type(f"{RUN} -- sh -c 'stty raw -echo; kill -9 $$'\n")
        screen.enter("stty -a >after; cmp before after && echo sa''me", shows="same")


def test_ctrl_z_stops_wrapper_and_command_and_fg_lets_both_go_on(tmp_path: Path) -> None:
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} -- {PYTHON}", shows=">>> ")
        screen.type("\x1a")
        screen.wait_for("Stopped")
        screen.enter("echo $((40+2))", shows="42")
        screen.type("fg\n")
        screen.enter("print(60 + 6)", shows="66")
        screen.type("raise SystemExit(5)\n")
        screen.enter("echo status $?", shows="status 5")


@pytest.mark.parametrize("stdin", ["", " <data"], ids=["terminal", "file"])
def test_a_command_that_answers_ctrl_z_with_sigstop_leaves_the_terminal_to_the_shell(
    tmp_path: Path, stdin: str
) -> None:
    """``top`` does, and ``suspend`` in a shell. Otherwise no process reads the keys, and none of them ends it."""
    (tmp_path / "data").write_text("")
    (tmp_path / "top.py").write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTSTP, lambda *_: os.kill(os.getpid(), signal.SIGSTOP))\n"
        "signal.signal(signal.SIGCONT, lambda *_: os._exit(5))\n"
        "print('rea' + 'dy', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    with shell(tmp_path) as screen:
        screen.type(f"{RUN} -- {shlex.quote(sys.executable)} top.py{stdin}\n")
        screen.wait_for("ready")
        screen.type("\x1a")
        screen.wait_for("Stopped")
        screen.type("echo $((40+2))\n")
        screen.wait_for("42")
        screen.type("fg\n")
        screen.type("echo status $?\n")
        screen.wait_for("status 5")


def test_a_command_in_the_background_reads_when_it_comes_to_the_foreground(tmp_path: Path) -> None:
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} -- sh -c 'read x; echo got $x' &", shows="leads")
        screen.enter("fg", shows="read x; echo got")
        screen.enter("wo''rd", shows="got wo''rd")


def test_in_a_pipeline_the_other_end_keeps_the_terminal(tmp_path: Path) -> None:
    """It may be a pager."""
    with shell(tmp_path) as screen:
        screen.enter(f"{RUN} -- echo hidden | sh -c 'read x </dev/tty; echo $((40+2)) $x'", shows="leads")
        screen.enter("typed", shows="42 typed")
