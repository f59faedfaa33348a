"""Child processes that never outlive this one, even if it is killed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import IO, Any

from .._runtime.fork import process_id

# The child asks the kernel to kill it when its parent ends. The setting survives exec. A separate program makes the
# request, since Python code between fork and exec (`preexec_fn`) can deadlock in a process with threads. The parent may
# have ended before the request, so the program checks its parent afterwards.
_PR_SET_PDEATHSIG = 1
_DIE_WITH_PARENT = (
    "import ctypes, os, sys\n"
    f"ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)

_STOP_SECONDS = 0.2

_Streams = int | IO[Any] | None
_Request = tuple[Callable[[], "subprocess.Popen[bytes]"], Future["subprocess.Popen[bytes]"]]


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: _Streams = subprocess.DEVNULL,
    stdout: _Streams = None,
    stderr: _Streams = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a new session, so that Ctrl-C reaches this process alone.

    On Linux the kernel kills the program when this process ends, even by SIGKILL. On other platforms only this
    process's own clean-up ends it.

    Args:
        argv: The program's absolute path, and its arguments.
        env: Its environment; None for ours.
        cwd: Its working directory; None for ours.
        stdin: As in ``subprocess.Popen``, except that the default is ``DEVNULL``.
        stdout: As in ``subprocess.Popen``.
        stderr: As in ``subprocess.Popen``.
    """
    command = list(argv)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )

    started: Future[subprocess.Popen[bytes]] = Future()
    _spawner(process_id()).put((start, started))
    try:
        return started.result()
    except KeyboardInterrupt:
        # The program may start even so, and no caller would have its handle.
        started.add_done_callback(lambda child: kill(child.result()))
        raise


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a child, even a stopped one, and collect its exit status. The child may have ended already."""
    process.kill()
    while process.returncode is None:
        # The wait has a limit, because Ctrl-C between two steps of Popen.wait() leaves its lock held forever.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
        if not hasattr(os, "waitid"):
            continue  # without waitid there is no way to check that the child has ended
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue  # it has not ended yet
            os.waitpid(process.pid, 0)
        process.returncode = -signal.SIGKILL


@cache
def _spawner(_process: tuple[int, int]) -> queue.SimpleQueue[_Request]:
    """Start this process's thread that starts programs, and return its queue of requests.

    To the kernel, the parent is the *thread* that forked. anyio's worker threads end after some idle seconds. So one
    thread forks all programs, and it runs until the process ends.
    """
    requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_serve, args=(requests,), name="etcdleader spawner", daemon=True).start()
    return requests


def _serve(requests: queue.SimpleQueue[_Request]) -> None:
    while True:
        start, started = requests.get()
        try:
            started.set_result(start())
        except Exception as error:  # noqa: BLE001 - raised in the caller
            started.set_exception(error)
