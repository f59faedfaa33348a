"""One etcd process of a test server, which can be checked, killed, frozen and restarted."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from ..errors import EtcdLeaderError
from . import _children

_POLL_SECONDS = 0.02
_HEAD_LINES = 6  # 3.4 begins with a warning of four lines, and names a wrong option after that
_TAIL_LINES = 12


class EtcdServerError(EtcdLeaderError):
    """A test etcd did not start. The message shows the beginning and the end of its log, and the log's path."""


class PortTakenError(EtcdServerError):
    """Another process took the port after it was found free and before etcd bound it."""


class EtcdMember:
    """One member of an :class:`EtcdServer`.

    The methods block, and may be called from any thread. Only ``restart`` takes long enough to need a worker thread:
    ``await anyio.to_thread.run_sync(member.restart)``.

    Attributes:
        name: ``m0``, ``m1`` and so on.
        endpoint: Its client address, as ``host:port``. It stays the same when the member is restarted.
        data_dir: Its data directory. Between ``kill()`` and ``restart()`` a test may copy, replace or remove it.
        log: The file with its standard output and standard error.
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
        """True while its process exists, even if the process is frozen."""
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
        """An explanation with parts of its log, if the process ended and ``kill()`` was not the reason. Else None."""
        if self._process is None or self._killed or (status := self._process.poll()) is None:
            return None
        return f"etcd member {self.name} ended by itself, with status {status}. {self._log_ends()}"

    def kill(self) -> None:
        """Kill the process by SIGKILL, even if it is frozen, and return when it is gone. A second call does nothing."""
        if self._process is not None:
            self._killed = self._killed or self.running
            _children.kill(self._process)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its connections stay open, and it does not respond on them.

        The method returns once the process has stopped. SIGSTOP alone does not wait for that.
        """
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Resume the process after ``pause()``."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, wait: bool = True) -> None:
        """Restart the member on the same port with its data. Kill it first if it is running.

        Args:
            wait: Return only when the member is healthy, which needs a quorum of its cluster. False: return at once.

        Raises:
            EtcdServerError: The process ended, or is not healthy within the server's ``start_timeout``.
        """
        self.kill()
        self.launch()
        if wait:
            self.wait_healthy()

    def launch(self) -> None:
        """Start the process without waiting until it is healthy."""
        self._killed = False
        with self.log.open("ab") as log:
            self._process = _children.spawn(
                self._command, env=plain_environment(), stdout=log, stderr=subprocess.STDOUT
            )

    def wait_healthy(self, checkpoint: Callable[[], object] = lambda: None) -> None:
        """Block until the member responds and its cluster has a leader.

        Args:
            checkpoint: Called repeatedly while waiting. An exception from it ends the wait.

        Raises:
            PortTakenError: The process ended because another process has its port.
            EtcdServerError: The process ended, or is not healthy within the server's ``start_timeout``.
        """
        deadline = time.monotonic() + self._start_timeout
        while True:
            healthy = self._is_healthy()
            checkpoint()
            if not self.running:  # a healthy response came from another process then
                log = self._log_ends()
                kind = PortTakenError if "address already in use" in log else EtcdServerError
                raise kind(f"etcd ended while it was starting. {log}")
            if healthy:
                return
            if time.monotonic() > deadline:
                raise EtcdServerError(f"etcd was not healthy after {self._start_timeout:g} s. {self._log_ends()}")
            time.sleep(_POLL_SECONDS)

    def _is_healthy(self) -> bool:
        unhealthy = suppress(OSError, http.client.HTTPException, ValueError)
        with unhealthy, closing(http.client.HTTPConnection(self._monitor, timeout=1.0)) as connection:
            connection.request("GET", "/health")
            return bool(json.loads(connection.getresponse().read())["health"] == "true")
        return False

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ProcessLookupError(f"etcd member {self.name} is not running")
        return self._process

    def _log_ends(self) -> str:
        """Return the log's beginning and end: etcd reports a wrong option first, and then prints all its options."""
        lines = self.log.read_text(errors="replace").splitlines()
        if len(lines) > _HEAD_LINES + _TAIL_LINES:
            lines[_HEAD_LINES:-_TAIL_LINES] = ["..."]
        return "\n".join((f"From {self.log}:", *lines))


def plain_environment() -> dict[str, str]:
    """Return our environment without ``ETCD_*``: etcd reads options from it, and refuses one that is set twice."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
