"""The wrapper's side of a supervised command: it tells how long the lease may be believed, and hears how it goes."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from ..._values.exit_codes import ExitCode
from . import supervisor as _supervisor
from .supervisor import boottime, descendants, signal_all

_logger = logging.getLogger("etcdleader.run")
_AGAIN = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds.

    Attributes:
        grace: Between SIGTERM and SIGKILL, where the lease allows it.
        lead: How long before the deadline SIGTERM is sent when no renewal was confirmed.
        after: How long after the deadline, or after the seat was lost, SIGKILL is.
        ignored: The signals that this process was started with ignored.
        json_errors: Whether an error of the supervisor is a line of JSON.
    """

    grace: float
    lead: float
    after: float
    ignored: Collection[int] = field(default=())
    json_errors: bool = False


class Child:
    """A command and the supervisor that is its parent.

    Attributes:
        over: Set when nothing of them is left.
        status: How the command ended: its exit status, or the negated number of a signal. None while it runs, and when
            it was lost sight of.
        has_terminal: It has the foreground of the terminal, where Ctrl-C reaches it and not this process.
        why: What made it end: ``ended`` (it did by itself), ``deadline``, ``told``, ``orphaned``; None when the
            supervisor was killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        deadline: float,
        limits: Limits,
        on_stopped: Callable[[], None],
    ) -> None:
        """Start them. It takes some hundredths of a second until the command runs.

        Args:
            command: Program and arguments.
            environment: Its variables.
            deadline: Until when the lease may be believed, on the clock that counts suspend.
            limits: How it is ended.
            on_stopped: Called when the command was stopped, by whatever signal.
        """
        self.over = anyio.Event()
        self.status: int | None = None
        self.why: str | None = None
        self._limits = limits
        self._on_stopped = on_stopped
        self._deadline = deadline
        self._kill_at = math.inf
        self._unsent = b""
        self.has_terminal = _terminal_is_for_the_command()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)  # noqa: FBT003 - as it is
        orders = {
            "wrapper": os.getpid(),
            "group": os.getpgrp(),
            "deadline": deadline,
            "grace": limits.grace,
            "lead": limits.lead,
            "after": limits.after,
            "terminal": self.has_terminal,
            "ignored": list(limits.ignored),
            "json": limits.json_errors,
            "not_executable": ExitCode.NOT_EXECUTABLE,
            "not_found": ExitCode.NOT_FOUND,
        }
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - running what we are told to is what this is for
                [
                    *(sys.executable, "-I", "-S", *_supervisor_program()),
                    *(str(theirs.fileno()), json.dumps(orders), *command),
                ],
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )

    # Telling

    def renewed(self, deadline: float) -> None:
        """The lease may be believed for longer."""
        self._deadline = deadline
        if not self._unsent:
            self._tell(deadline=deadline)

    def signal(self, number: int) -> None:
        """Pass a signal on to the command's process group."""
        self._tell(signal=number)

    def resume(self) -> None:
        """Let it go on, in the foreground if this process is there."""
        self._tell(resume=True)

    def end(self, kill_by: float | None = None) -> None:
        """SIGTERM now; SIGKILL after the grace, or when the lease requires it, or at ``kill_by``."""
        grace_ends = boottime() + self._limits.grace
        self._kill_at = min(self._kill_at, grace_ends if kill_by is None else min(grace_ends, kill_by))
        self._tell(end=kill_by)

    def is_overdue(self) -> bool:
        """Whether the supervisor should long have killed the command: it does not run, then."""
        return boottime() >= min(self._kill_at, self._deadline + self._limits.after) + self._limits.after

    def kill(self) -> None:
        """Do the supervisor's work for it: it goes first, and what was its children becomes ours."""
        self._process.kill()

    def _tell(self, **message: object) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        with suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[self._channel.send(self._unsent) :]
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                self._unsent = b""  # it is gone; listening will tell

    # Hearing

    async def listen(self) -> None:
        """Hear what the supervisor tells, until nothing is left of it and the command."""
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
        self._process.wait()  # it is ending, or dead
        if not finished:
            _logger.error("the supervisor of the command was killed; killing what is left of the command")
            self.why = None
            await self._kill_what_is_left()
        self.over.set()

    def _take(self, message: dict[str, Any]) -> bool:
        if "stopped" in message:
            self._on_stopped()
        elif "survivors" in message:
            _logger.error("processes of the command do not die when killed: %s", message["survivors"])
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
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
            await anyio.sleep(_AGAIN)


def _supervisor_program() -> list[str]:
    """Return the arguments that have Python run the supervisor: its file or, if it is in a zip, its code."""
    path = _supervisor.__file__
    loader: Any = _supervisor.__loader__
    if Path(path).exists() or loader is None:
        return [path]
    from base64 import b64encode
    from marshal import dumps

    code = b64encode(dumps(loader.get_code(_supervisor.__name__))).decode()
    return ["-c", f"import base64, marshal; exec(marshal.loads(base64.b64decode({code!r})))"]


def _terminal_is_for_the_command() -> bool:
    """Whether it should have the terminal's foreground: not in a pipeline, whose other end may want it."""
    try:
        if not os.isatty(0) or _is_pipe(1):
            return False
        return os.tcgetpgrp(0) != 0
    except OSError:
        return False


def _is_pipe(fd: int) -> bool:
    from stat import S_ISFIFO

    try:
        return S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
