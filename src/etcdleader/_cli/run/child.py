"""The wrapper's side of a supervised command: it sends deadlines to the supervisor and receives its reports."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISFIFO
from typing import Any

import anyio

from ..._values.exit_codes import ExitCode
from . import supervisor as _supervisor
from .supervisor import boottime, descendants, signal_all

_logger = logging.getLogger("etcdleader.run")
_AGAIN_SECONDS = 0.01
_INTERRUPTED = frozenset(
    {-signal.SIGINT, -signal.SIGQUIT, ExitCode.SIGNAL + signal.SIGINT, ExitCode.SIGNAL + signal.SIGQUIT}
)
"""Exit statuses of a command that Ctrl-C or Ctrl-\\ ended, by the signal itself or as a shell reports it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits of a command, and other settings of its supervisor.

    Attributes:
        grace: The seconds between SIGTERM and SIGKILL, if the lease allows them.
        sigterm_before_deadline: The seconds from SIGTERM to the deadline if no renewal is confirmed.
        sigkill_after_deadline: The seconds from the deadline, or from the loss of leadership, to SIGKILL.
        ignored: The signals that this process ignored at its start.
        json_errors: Whether the supervisor writes its errors as JSON lines.
    """

    grace: float
    sigterm_before_deadline: float
    sigkill_after_deadline: float
    ignored: Sequence[int] = ()
    json_errors: bool = False


class Child:
    """A command and the supervisor that is its parent.

    Attributes:
        over: Set when all processes of the command and the supervisor have ended.
        status: The command's exit status, or the negated number of the signal that ended it. None while it runs, and if
            its status is unknown.
        has_terminal: Whether the command has the foreground of the terminal. Then Ctrl-C reaches it and not this process.
        why: The cause of the end: ``ended`` (the command ended itself), ``deadline``, ``requested`` (this process requested
            it) or ``orphaned``. None if the supervisor was killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        deadline: float,
        limits: Limits,
        on_stopped: Callable[[], None] | None,
    ) -> None:
        """Start the supervisor, which starts the command. That takes some hundredths of a second.

        Args:
            command: The program and its arguments.
            environment: The environment of the command.
            deadline: The time until which the lease is valid, on the clock of ``boottime``.
            limits: The time limits.
            on_stopped: Called when any signal has stopped the command. None: the command gets neither the terminal nor this
                process's stdin.
        """
        self.over = anyio.Event()
        self.status: int | None = None
        self.why: str | None = None
        self._limits = limits
        self._on_stopped = on_stopped
        self._deadline = deadline
        self._kill_at = math.inf
        self._unsent = b""
        self.has_terminal = on_stopped is not None and _terminal_is_for_the_command()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)  # noqa: FBT003 - the stdlib's signature
        orders = {"wrapper": os.getpid(), "group": os.getpgrp(), "deadline": deadline, "terminal": self.has_terminal}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - the user gives the command to run
                [
                    *(sys.executable, "-I", "-S", *_supervisor_program()),
                    *(str(theirs.fileno()), json.dumps(orders | asdict(limits)), *command),
                ],
                env=dict(environment),
                stdin=subprocess.DEVNULL if on_stopped is None else None,
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )

    @property
    def was_interrupted(self) -> bool:
        """True if the terminal's Ctrl-C or its quit character ended the command: they reach only the command."""
        return self.has_terminal and self.status in _INTERRUPTED

    # Messages to the supervisor

    def renewed(self, deadline: float) -> None:
        """Send a later deadline."""
        self._deadline = deadline
        if not self._unsent:
            self._send(deadline=deadline)

    def signal(self, number: int) -> None:
        """Pass a signal on to the command's process group."""
        self._send(signal=number)

    def resume(self) -> None:
        """Continue the command, in the foreground if this process has it."""
        self._send(resume=True)

    def end(self, kill_by: float | None = None) -> None:
        """End the command: SIGTERM now; SIGKILL after the grace period, at ``kill_by``, or when the lease requires it."""
        grace_ends = boottime() + self._limits.grace
        self._kill_at = min(self._kill_at, grace_ends if kill_by is None else min(grace_ends, kill_by))
        self._send(end=kill_by)

    def is_overdue(self) -> bool:
        """Return whether the supervisor is late with SIGKILL. Then it does not run, for example because it is stopped."""
        after = self._limits.sigkill_after_deadline
        return boottime() >= min(self._kill_at, self._deadline + after) + after

    def kill(self) -> None:
        """Kill the supervisor. Its children become children of this process, which then kills them."""
        self._process.kill()

    def _send(self, **message: object) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        try:
            self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except BlockingIOError:
            pass  # sent before the next message
        except OSError:
            self._unsent = b""  # the supervisor has ended; listen() detects that

    # Messages from the supervisor

    async def listen(self) -> None:
        """Receive the supervisor's messages until it and all processes of the command have ended."""
        heard, finished = b"", False
        with self._channel:
            while True:
                try:
                    some = self._channel.recv(4096)
                except BlockingIOError:
                    await anyio.wait_readable(self._channel)
                    continue
                except OSError:
                    some = b""
                if not some:
                    break
                *lines, heard = (heard + some).split(b"\n")
                for line in lines:
                    finished |= self._take(json.loads(line))
        self._process.wait()  # it is ending, or has ended
        if not finished:
            _logger.error("the supervisor of the command was killed; killing the remaining processes")
            self.why = None
            await self._kill_what_is_left()
        self.over.set()

    def _take(self, message: dict[str, Any]) -> bool:
        if "stopped" in message:
            if self._on_stopped is not None:
                self._on_stopped()
        elif "survivors" in message:
            _logger.error("processes of the command survive SIGKILL: %s", message["survivors"])
        elif "ending" in message:
            self.why = message["ending"]
            _logger.debug("the command is ending: %s", self.why)
        elif "dead" in message:
            self.status, self.why = message["dead"], message["why"]
            return True
        return False

    async def _kill_what_is_left(self) -> None:
        while left := descendants(os.getpid()):
            signal_all(os.getpid(), (signal.SIGKILL,))
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG: it does not block
            await anyio.sleep(_AGAIN_SECONDS)


def exit_status(code: int | None) -> int:
    """Return the exit status as a shell reports it. ``code`` is that of ``Child.status``."""
    if code is None:
        return ExitCode.BROKEN
    return ExitCode.SIGNAL - code if code < 0 else code


def _supervisor_program() -> list[str]:
    """Return Python's arguments to run the supervisor: its file or, if it is in a zip, its code."""
    path = _supervisor.__file__
    loader: Any = _supervisor.__loader__
    if Path(path).exists() or loader is None:
        return [path]
    from base64 import b64encode
    from marshal import dumps

    code = b64encode(dumps(loader.get_code(_supervisor.__name__))).decode()
    return ["-c", f"import base64, marshal; exec(marshal.loads(base64.b64decode({code!r})))"]


def _terminal_is_for_the_command() -> bool:
    """Return whether the command gets the terminal's foreground. In a pipeline, the other end may need it."""
    try:
        return os.isatty(0) and not S_ISFIFO(os.fstat(1).st_mode) and os.tcgetpgrp(0) != 0
    except OSError:
        return False
