"""Commands under ``etcdleader run`` that leave a trace, and ways to hurt their wrappers one by one."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.python_process import Python

COMMAND = """
    import os, signal, sys, time

    trace = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(what):
        os.write(trace, f"{sys.argv[2]} {os.environ['ETCDLEADER_TOKEN']} {os.getpid()} {what}\\n".encode())

    def live():
        while True:
            say("alive")
            time.sleep(0.005)

    def ignore():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def ignoring():
        ignore()
        live()

    def daemon():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                ignore()
                live()
            os._exit(0)
        ignore()
        live()

    def stopped():
        say("stopping")
        os.kill(0, signal.SIGSTOP)
        live()

    say("start")
    globals()[sys.argv[3]]()
"""
"""It writes while it lives. All traces of an election are in one file, and what is appended has an order."""

PROGRAM = """
    import signal, time
    from etcdleader._cli import main

    signal.signal(signal.SIGALRM, lambda *_: time.sleep(1000))  # blocks the event loop: Python runs it in its thread
    main()
"""

PATIENCE = 60.0
LEASE = ("--lease=5s", "--renew=500ms", "--retry=500ms", "--margin=2s", "--grace=500ms")


@dataclass(frozen=True)
class Line:
    """A line that a command wrote."""

    name: str
    token: int
    pid: int
    what: str


class Trace:
    """The lines that the commands of one election wrote, in their order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[Line]:
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_text().rpartition("\n")  # a line that is just being written is none yet
        words = [line.split() for line in whole.splitlines()]
        return [Line(name, int(token), int(pid), what) for name, token, pid, what in words]

    def is_of_a_stopped_command(self) -> bool:
        """Return whether the newest line is the last of a command that has stopped itself."""
        lines = self.lines()
        return bool(lines) and lines[-1].what == "stopping"

    def check_that_no_two_ran_at_once(self) -> None:
        """After the first line of a term comes none of an earlier one."""
        newest = 0
        for line in self.lines():
            assert line.token >= newest, f"{line} came after a line of the term with token {newest}"
            newest = line.token


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends_at, "it has not come to that"
        time.sleep(0.02)


class Forwarder(threading.Thread):
    """The way to etcd of one process, which can be cut: nothing goes through then, and nothing is closed."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        host, _, port = endpoint.rpartition(":")
        self._etcd = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._others: dict[socket.socket, socket.socket] = {}
        self._over = False
        self.cut = False
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while not self._over:
            if self.cut:
                time.sleep(0.02)
                continue
            for ready in select.select([self._listener, *self._others], [], [], 0.02)[0]:
                if ready is self._listener or ready in self._others:  # else it was closed a moment ago
                    self._pass_on(ready)
        for each in (self._listener, *self._others):
            each.close()

    def _pass_on(self, ready: socket.socket) -> None:
        if ready is self._listener:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(self._etcd)
            except OSError:
                near.close()
                return
            self._others[near], self._others[far] = far, near
            return
        try:
            some = ready.recv(65536)
            self._others[ready].sendall(some)
        except OSError:
            some = b""
        if not some:
            other = self._others.pop(ready)
            self._others.pop(other, None)
            ready.close()
            other.close()

    def close(self) -> None:
        self._over = True
        self.join()


@dataclass
class Wrapper:
    """One ``etcdleader run``."""

    name: str
    process: subprocess.Popen[str]
    forwarder: Forwarder

    def supervisor(self) -> int:
        """The pid of the process between it and the command."""
        children: list[int] = []

        def found() -> bool:
            children[:] = children_of(self.process.pid)
            return bool(children)

        until(found)
        return children[0]


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(pid)
    return found


def is_alive(pid: int) -> bool:
    """Return whether it exists and is no zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def of_election(election_key: str) -> list[int]:
    """Supervisors and commands, wherever they have forked to."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if f"ETCDLEADER_ELECTION={election_key}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_all(election_key: str) -> None:
    """Kill them until none is left. A process that forks during the search leaves a child that was not found. The reader of
    a pipe would wait forever for the process that holds it."""
    until(lambda: not _killed(election_key))


def _killed(election_key: str) -> list[int]:
    found = of_election(election_key)
    for pid in found:
        signal_if_there(pid, signal.SIGKILL)
    return found


@contextmanager
def wrapped(
    name: str, endpoint: str, election_key: str, *words: str, options: tuple[str, ...] = LEASE, **popen: object
) -> Iterator[Wrapper]:
    """``etcdleader run`` on its own way to etcd. Whatever is left in the end is killed."""
    forwarder = Forwarder(endpoint)
    process: subprocess.Popen[str] = Python(
        [
            *(sys.executable, "-c", textwrap.dedent(PROGRAM), "run", "--election", election_key, "--id", name),
            *(f"--endpoint={forwarder.endpoint}", *options, "--", *words),
        ],
        text=True,
        **{"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **popen},  # type: ignore[call-overload]
    )
    try:
        yield Wrapper(name, process, forwarder)
    finally:
        process.kill()
        kill_all(election_key)
        process.communicate()
        forwarder.close()


def tracing(trace: Trace, name: str, kind: str) -> list[str]:
    """The command that writes into a trace."""
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(COMMAND), str(trace.path), name, kind]


def signal_if_there(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
