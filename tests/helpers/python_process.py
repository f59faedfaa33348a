"""Start Python in a separate process, without the third of a second that its libraries take to load.

The suite starts more than two hundred programs. Without this, loading gRPC, dynaconf and typer for each would be a good
part of its run.
"""

from __future__ import annotations

import array
import atexit
import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.helpers.forkserver import STATUS

__all__ = ("Python", "run_python")


class _Server:
    """The process that forks the others. There is one for each process of the test run."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._lock = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("forkserver.py")), str(its.fileno())],
                pass_fds=[its.fileno()],
                cwd="/",
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self._close)

    def fork(self, order: dict[str, Any], files: list[int]) -> int:
        """Fork, and return the pid."""
        with self._lock:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
            self._control.sendmsg([json.dumps(order).encode()], [rights])
            (pid,) = STATUS.unpack(self._control.recv(STATUS.size))
        assert isinstance(pid, int)
        return pid

    def _close(self) -> None:
        self._control.close()
        self._process.wait()


_server = cache(_Server)


def _for_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class Python(subprocess.Popen[str]):
    """``subprocess.Popen`` for ``[sys.executable, ("-P",) "-m" or "-c", ...]``, without loading the libraries again.

    The program is nevertheless a separate process. It has the requested arguments, environment, working directory,
    streams and session. Only ``/proc/<pid>/cmdline`` and ``environ`` are those of the server, and its parent is not
    this process. Other variables for the interpreter itself (``PYTHON...``) require a new interpreter.
    """

    _status: int | None = None

    def _execute_child(self, *arguments: Any) -> None:
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *arguments).arguments  # type: ignore[attr-defined]
        executable, *args = asked["args"]
        assert executable == sys.executable
        assert not any(asked[name] for name in ("preexec_fn", "pass_fds", "shell")), "not needed so far"
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if _for_python(environment) != _for_python(os.environ):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        here, there = os.pipe()
        self._status = here
        given = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        streams = [number if file == -1 else file for number, file in enumerate(given)]
        order = {
            "arguments": [os.fspath(word) for word in args],
            "cwd": os.fspath(asked["cwd"] or Path.cwd()),
            "env": environment,
            "ignored": [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN],
            "start_new_session": asked["start_new_session"],
        }
        try:
            self.pid = _server().fork(order, [*streams, there])
            self._child_created = True
        finally:
            os.close(there)
            self._close_pipe_fds(  # type: ignore[attr-defined]
                *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
            )

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return os.waitpid(self.pid, wait_flags)
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        received = os.read(self._status, STATUS.size)
        os.close(self._status)
        # It is empty if the server was ended first, as at the end of the test run.
        return self.pid, STATUS.unpack(received)[0] if received else signal.SIGKILL

    def _internal_poll(self, _deadstate: int | None = None, **_: object) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run_python(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run like ``subprocess.run``, with nothing to read and with all output as text."""
    pipe = subprocess.PIPE
    with Python(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
