"""One etcd process: started, asked how it is, killed, frozen, thawed, started again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import EtcdLeaderError
from . import _children

_POLL = 0.02
_HEAD_LINES = 6  # 3.4 begins with a warning of four lines, and names a wrong option after that
_TAIL_LINES = 12


class EtcdServerError(EtcdLeaderError):
    """An etcd that was to be started for tests did not come up. The message shows the ends of its log, and where the
    whole of it is."""


class PortTakenError(EtcdServerError):
    """Someone took the port between the moment it was found free and the moment etcd wanted it."""


class EtcdMember:
    """One member of an :class:`EtcdServer`. The calls are plain ones and may be made from any thread; only
    ``restart`` takes long enough to want one (``await anyio.to_thread.run_sync(member.restart)``).

    Attributes:
        name: ``m0``, ``m1`` and so on.
        endpoint: Where clients reach it, as ``host:port``. It stays the same when the member is restarted.
        data_dir: Its data. Between ``kill()`` and ``restart()`` a test may copy, replace or remove it.
        log: What it has written to standard output and standard error.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        command: Sequence[str],
        *,
        data_dir: Path,
        log: Path,
        start_timeout: float,
        monitor: str | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.data_dir = data_dir
        self.log = log
        self._command = tuple(command)
        self._start_timeout = start_timeout
        self._monitor = monitor or endpoint
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<EtcdMember {self.name} {self.endpoint} {state}>"

    @property
    def running(self) -> bool:
        """Whether its process exists. A frozen one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ProcessLookupError: It is not running.
        """
        return self._running_process().pid

    @property
    def last_words(self) -> str | None:
        """What its log says at the end, when it has ended and nobody here has ended it; else None."""
        if self._process is None or self._killed or (status := self._process.poll()) is None:
            return None
        return f"etcd member {self.name} ended by itself, with status {status}. {self._log_ends()}"

    def kill(self) -> None:
        """End it by SIGKILL, frozen or not, and return when it is gone. Killing it twice is no error."""
        if self._process is not None:
            self._killed = self._killed or self.running
            _children.kill(self._process)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nothing on them is answered.

        Returns when it stands still: the signal by itself only asks for that.
        """
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on after ``pause()``."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, wait: bool = True) -> None:
        """Start it again on the same port with the data it has; kill it first if it runs.

        Args:
            wait: Return only when it is healthy, which takes a quorum of its cluster. False: return at once.

        Raises:
            EtcdServerError: It ended, or is not healthy within the server's ``start_timeout``.
        """
        self.kill()
        self.launch()
        if wait:
            self.wait_healthy()

    def launch(self) -> None:
        """Start the process, and do not wait for it."""
        self._killed = False
        with self.log.open("ab") as log:
            self._process = _children.spawn(
                self._command, env=plain_environment(), stdout=log, stderr=subprocess.STDOUT
            )

    def wait_healthy(self, checkpoint: Callable[[], object] = lambda: None) -> None:
        """Block until the member serves, and its cluster has a leader.

        Args:
            checkpoint: Called over and over while waiting; what it raises ends the wait.

        Raises:
            PortTakenError: It ended because another process has its port.
            EtcdServerError: It ended, or is not healthy within the server's ``start_timeout``.
        """
        deadline = time.monotonic() + self._start_timeout
        while True:
            healthy = self._is_healthy()
            checkpoint()
            if not self.running:  # also when somebody is healthy there: then it is somebody else
                log = self._log_ends()
                kind = PortTakenError if "address already in use" in log else EtcdServerError
                raise kind(f"etcd ended while it was starting. {log}")
            if healthy:
                return
            if time.monotonic() > deadline:
                raise EtcdServerError(f"etcd was not healthy after {self._start_timeout:g} s. {self._log_ends()}")
            time.sleep(_POLL)

    def _is_healthy(self) -> bool:
        try:
            return bool(self._ask_for_health()["health"] == "true")
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def _ask_for_health(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._monitor, timeout=1.0)
        try:
            connection.request("GET", "/health")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ProcessLookupError(f"etcd member {self.name} is not running")
        return self._process

    def _log_ends(self) -> str:
        """Its beginning and its end: etcd tells of a wrong option first, and then prints all there are."""
        lines = self.log.read_text(errors="replace").splitlines()
        if len(lines) > _HEAD_LINES + _TAIL_LINES:
            lines[_HEAD_LINES:-_TAIL_LINES] = ["..."]
        return "\n".join((f"From {self.log}:", *lines))


def plain_environment() -> dict[str, str]:
    """Return our environment without ``ETCD_*``: etcd reads options from there, and refuses one that is given twice."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
