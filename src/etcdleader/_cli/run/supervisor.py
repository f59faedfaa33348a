"""The process between ``etcdleader run`` and its command. It ends the command in time, even without the wrapper.

``python -I -S`` runs this module as a script. It uses only the standard library, one thread and no event loop.

It is the command's parent, and a subreaper that adopts the command's orphans. So it finds processes that have forked
away or started their own session.

After each confirmed renewal, the wrapper sends the new deadline, and the supervisor compares it with CLOCK_BOOTTIME. If
no message arrives in time, or the wrapper has ended, the supervisor ends the command without a request. It sends
SIGTERM to all processes, then SIGKILL repeatedly until none is left.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Collection
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_TICK_SECONDS = 0.25
"""Seconds between two checks of the clock, on systems whose timers do not count suspend."""
_KILL_AGAIN_SECONDS = 0.01
_SURVIVORS_AFTER_SECONDS = 2.0
"""Seconds from the first SIGKILL until the survivors are reported."""
_MAX_DEPTH = 10_000
_IGNORED = (
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ),
)
"""Signals that are meant for the command, or for the wrapper."""
_PARENT_DIED = signal.SIGUSR2
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""The exit statuses of ``ExitCode``, which this script cannot import."""


def boottime() -> float:
    """Return the time in seconds on a clock that counts suspend. Outside Linux, the clock may not count it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if LINUX else time.monotonic()


def _prctl(option: int, argument: int) -> bool:
    return LINUX and ctypes.CDLL(None).prctl(option, argument, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Make this process adopt its orphaned descendants. Return whether the system can do that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - Path is a hundred times slower, and this runs for all pids
            # "pid (name) state parent ...", and the name may contain any character.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def descendants(root: int) -> list[int]:
    """Return the descendants of a process, from /proc. The next call finds processes that were forked meanwhile."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:  # noqa: PTH208 - names are enough
            parent = _parent(pid)
            if parent is not None:
                children.setdefault(parent, []).append(pid)
    found: list[int] = []
    left = [root]
    while left:
        below = children.pop(left.pop(), [])
        found += below
        left += below
    return found


def _descends(pid: int, root: int) -> bool:
    parent: int | None = pid
    for _ in range(_MAX_DEPTH):
        parent = _parent(parent) if parent else None
        if parent == root:
            return True
        if not parent:
            return False
    return False


def _signal(pid: int, number: int, root: int) -> None:
    """Signal a process if it is still a descendant of ``root``: another process may have its pid by now."""
    pidfd_open = getattr(os, "pidfd_open", None)
    try:
        handle = pidfd_open(pid) if pidfd_open else None
    except ProcessLookupError:
        return
    except OSError:
        handle = None  # the kernel is too old
    try:
        if not _descends(pid, root):
            return
        if handle is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        if handle is not None:
            os.close(handle)


def signal_all(root: int, numbers: Collection[int], *, but: Collection[int] = ()) -> list[int]:
    """Signal all descendants of ``root`` except those in ``but``. Return those that this user may not signal."""
    refused = []
    for pid in descendants(root):
        if pid not in but:
            try:
                for number in numbers:
                    _signal(pid, number, root)
            except PermissionError:
                refused.append(pid)
    return refused


class _Alarm:
    """A timer that counts suspend. When the machine wakes up, overdue work is done first."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        boottime_clock, cloexec = 7, 0o2000000
        self.fd = self._libc.timerfd_create(boottime_clock, cloexec) if LINUX else -1

    def set(self, at: float) -> None:
        """Set the time at which the timer expires; inf for never."""
        seconds, part = (0, 0.0) if math.isinf(at) else divmod(max(at, 1e-3), 1)
        spec = (ctypes.c_long * 4)(0, 0, int(seconds), int(part * 1e9))
        self._libc.timerfd_settime(self.fd, 1, ctypes.byref(spec), None)


class _Terminal:
    """The controlling terminal. The command gets its foreground if the wrapper has it."""

    def __init__(self, group: int) -> None:
        self._fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        self._group = group
        self._modes = termios.tcgetattr(self._fd)
        self._their_modes: list[Any] | None = None

    def lend(self, group: int) -> None:
        """Give the foreground to a process group if the wrapper has it. Restore the modes that the group last used."""
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == self._group:
                if self._their_modes is not None:
                    termios.tcsetattr(self._fd, termios.TCSANOW, self._their_modes)
                os.tcsetpgrp(self._fd, group)

    def take_back(self, group: int) -> None:
        """Take the foreground from a process group, unless another group has it. Restore the wrapper's modes."""
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == group:
                self._their_modes = termios.tcgetattr(self._fd)
                os.tcsetpgrp(self._fd, self._group)
                termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)


class Supervisor:
    """The supervision of one command, from its start until all of its processes have ended.

    Args:
        channel: The socket to the wrapper. Messages are JSON objects, one a line.
        orders: ``wrapper`` and ``group``, the wrapper's pid and process group. ``deadline``, until which the lease is valid
            by ``boottime``. ``terminal``: the command gets the foreground. The others are the fields of ``child.Limits``.
        command: The program and its arguments.
    """

    def __init__(self, channel: socket.socket, orders: SimpleNamespace, command: list[str]) -> None:
        self._channel: socket.socket | None = channel
        self._orders = orders
        self._deadline: float = orders.deadline
        self._sigterm_before_deadline: float = orders.sigterm_before_deadline
        self._sigkill_after_deadline: float = orders.sigkill_after_deadline
        self._command = command
        self._terminal: _Terminal | None = None
        with suppress(OSError, termios.error):
            self._terminal = _Terminal(orders.group) if orders.terminal else None
        self._heard = b""
        self._pid = 0
        self._status: int | None = None
        self._why: str | None = None
        self._kill_at = self._killed_at = self._killing_since = math.inf
        self._alone = self._reported_survivors = False

    def run(self) -> None:
        """Start the command, and return when all of its processes have ended."""
        awake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if LINUX else os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(awake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, _PARENT_DIED):
            signal.signal(number, lambda *_: None)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        become_subreaper()
        _prctl(_PR_SET_PDEATHSIG, _PARENT_DIED)
        poll, alarm = select.poll(), _Alarm()
        for fd in (awake, alarm.fd, self._channel.fileno() if self._channel else -1):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        self._look()
        if self._why is None:
            self._start()
        while not self._alone or self._status is None:
            due = self._due()
            if alarm.fd >= 0:
                alarm.set(due)
            poll.poll(None if alarm.fd >= 0 else 1000 * max(0.0, min(_TICK_SECONDS, due - boottime())))
            with suppress(BlockingIOError):
                os.read(awake, 4096)
            channel = self._channel
            self._look()
            if channel is not None and self._channel is None:
                poll.unregister(channel)
        self._take_terminal_back()
        self._send(dead=self._status, why=self._why)

    # The command

    def _start(self) -> None:
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._become_command(supervisor)
            finally:
                os._exit(_NOT_EXECUTABLE)
        with suppress(OSError):
            os.setpgid(self._pid, self._pid)  # parent and child both do this; one of them is first
        self._send(pid=self._pid)

    def _become_command(self, supervisor: int) -> None:
        os.setpgid(0, 0)
        if self._terminal is not None:
            self._terminal.lend(os.getpid())
        for number in (*_IGNORED, _PARENT_DIED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if number in self._orders.ignored else signal.SIG_DFL)
        # If this process is killed, the kernel kills the command. The wrapper finds the processes that it has forked.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == supervisor:
            try:
                os.execvp(self._command[0], self._command)  # noqa: S606 - no shell is wanted
            except OSError as error:
                os.write(2, self._refusal(f"{self._command[0]}: {error.strerror}").encode(errors="replace"))
                os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)

    def _refusal(self, text: str) -> str:
        """Return a line of the log, in the wrapper's format."""
        if not self._orders.json_errors:
            return f"etcdleader: error: {text}\n"
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()), "level": "error"}
        line |= {"logger": "etcdleader.run", "message": text}
        line |= {name: os.environ.get(f"ETCDLEADER_{name.upper()}", "") for name in ("election", "identity")}
        return json.dumps(line) + "\n"

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                self._alone = True
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid == self._pid and self._why is None:
                    self._take_terminal_back()
                    self._send(stopped=os.WSTOPSIG(status))
            elif pid == self._pid:
                self._take_terminal_back()
                self._status = os.waitstatus_to_exitcode(status)
                self._end("ended")

    def _take_terminal_back(self) -> None:
        if self._terminal is not None and self._pid:
            self._terminal.take_back(self._pid)

    # Its end

    def _end(self, why: str) -> None:
        """Start the shutdown, once: SIGTERM to all processes now, SIGKILL after the grace period."""
        if self._why is not None:
            return
        self._why = why
        self._kill_at = min(self._kill_at, boottime() + self._orders.grace)
        self._send(ending=why)
        if self._pid == 0:
            self._status, self._alone = -signal.SIGTERM, True  # the command was never started
            return
        self._signal_group(signal.SIGTERM)
        # A stopped process handles SIGTERM only after SIGCONT.
        signal_all(os.getpid(), (signal.SIGTERM, signal.SIGCONT), but=() if self._status is not None else self._group())
        self._signal_group(signal.SIGCONT)

    def _group(self) -> set[int]:
        members = set()
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                if os.getpgid(pid) == self._pid:
                    members.add(pid)
        return members

    def _signal_group(self, number: int) -> None:
        if self._pid and self._status is None:  # otherwise, another group may have this number
            with suppress(OSError):
                os.killpg(self._pid, number)

    def _kill(self, now: float) -> None:
        self._killing_since = min(self._killing_since, now)
        self._killed_at = now
        self._signal_group(signal.SIGKILL)
        signal_all(os.getpid(), (signal.SIGKILL,))
        if now - self._killing_since > _SURVIVORS_AFTER_SECONDS and not self._reported_survivors:
            self._reported_survivors = True
            self._send(survivors=descendants(os.getpid()))

    def _due(self) -> float:
        """Return the time of the next action."""
        if self._why is None:
            return self._deadline - self._sigterm_before_deadline
        if math.isfinite(self._killed_at):
            return self._killed_at + _KILL_AGAIN_SECONDS
        return min(self._kill_at, self._deadline + self._sigkill_after_deadline)

    def _look(self) -> None:
        """Receive messages, then do what is due. A message may have arrived while this process was stopped."""
        self._receive()
        if os.getppid() != self._orders.wrapper:
            self._end("orphaned")
        if boottime() >= self._due() and self._why is None:
            self._end("deadline")
        if self._why is not None and not self._alone and (now := boottime()) >= self._due():
            self._kill(now)
        if self._pid:
            self._reap()

    # The wrapper

    def _receive(self) -> None:
        while self._channel is not None:
            try:
                some = self._channel.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                some = b""
            if not some:
                self._channel = None
                self._end("orphaned")
                return
            *lines, self._heard = (self._heard + some).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        if "deadline" in message:
            self._deadline = message["deadline"]
        elif "signal" in message:
            self._signal_group(message["signal"])
        elif "resume" in message:
            if self._terminal is not None and self._pid and self._status is None:
                self._terminal.lend(self._pid)
            self._signal_group(signal.SIGCONT)
        elif "end" in message:
            if message["end"] is not None:
                self._kill_at = min(self._kill_at, message["end"])
            self._end("requested")

    def _send(self, **message: object) -> None:
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)  # noqa: FBT003 - the stdlib's signature
    options = SimpleNamespace(**json.loads(sys.argv[2]))
    Supervisor(socket.socket(fileno=int(sys.argv[1])), options, sys.argv[3:]).run()
