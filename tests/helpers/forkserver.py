"""Runs Python programs, each in a process forked from this one, which has loaded the slow libraries.

A socket carries one order and one response for each; see ``Python`` in ``python_process.py``. It never loads
etcdleader, nor etcdleader's version of etcd3: each program loads the package itself, like a user's program.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOADED = (
    "anyio._backends._asyncio", "anyio._backends._trio", "dynaconf", "google.protobuf.message_factory", "grpc", "rich.console",
    "rich.live", "rich.table", "tenacity", "trio", "typer",
)  # fmt: skip
"""For the forked processes."""
STATUS = struct.Struct("i")
_STREAMS = 3
_LONGEST = 1 << 20


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next order and its files: standard input, output and errors, and the file for the exit status."""
    data, ancillary, _, _ = control.recvmsg(_LONGEST, socket.CMSG_SPACE((_STREAMS + 1) * array.array("i").itemsize))
    if not data:
        return None
    files = array.array("i")
    for _, _, sent in ancillary:
        files.frombytes(sent)
    return json.loads(data), files.tolist()


def _open_streams() -> None:
    """Open the standard streams like a starting interpreter."""
    encoding = sys.stdout.encoding
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding=encoding, closefd=False)  # type: ignore[misc]
    buffering = 1 if os.isatty(1) or os.environ.get("PYTHONUNBUFFERED") else -1
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering, encoding, closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding, "backslashreplace", closefd=False)  # type: ignore[misc]


def _become(order: dict[str, Any], files: list[int]) -> Callable[[], object]:
    """Apply the settings that an ``execve`` would have given this process. Return the program as a function."""
    if order["start_new_session"]:
        os.setsid()
    os.chdir(order["cwd"])
    for number, file in enumerate(files[:_STREAMS]):
        os.dup2(file, number)
    os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
    _open_streams()
    for number in order["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(order["env"])
    options = list(order["arguments"])
    if options[0] == "-P":
        options.pop(0)
    else:
        sys.path.insert(0, "" if options[0] == "-c" else str(Path.cwd()))
    kind, what, *words = options
    sys.argv = [kind, *words]
    if kind == "-m":
        return lambda: runpy.run_module(what, run_name="__main__", alter_sys=True)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    code = compile(what, "<string>", "exec")
    return lambda: exec(code, main.__dict__)


def serve(control: socket.socket) -> Callable[[], object] | None:
    """Fork for each order, and report each exit status.

    Return in the forked processes; here, return after the last order.
    """
    processes = selectors.DefaultSelector()
    processes.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in processes.select():
            if key.fileobj is not control:
                pid, status = key.data
                os.write(status, STATUS.pack(os.waitpid(pid, 0)[1]))
                os.close(status)
                processes.unregister(key.fileobj)
                os.close(key.fd)
                continue
            if (order := _receive(control)) is None:
                return None
            pid = os.fork()
            if not pid:
                processes.close()
                control.close()
                return _become(*order)
            *streams, status = order[1]
            for file in streams:
                os.close(file)
            processes.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
            control.send(STATUS.pack(pid))


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a garbage collection in one of the processes would copy the shared pages

    # A signal to a new process waits until that process can handle it.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = serve(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        program()
