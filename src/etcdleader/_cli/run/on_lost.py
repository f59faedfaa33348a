"""The shell command that runs after a loss of leadership."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

import anyio

from .child import exit_status

_logger = logging.getLogger("etcdleader.run")


class OnLost:
    """The command of ``--on-lost``, one run after another.

    Attributes:
        leave_at: The time of the signal that ends this process, on the loop's clock; ``inf`` before it.
    """

    def __init__(self, longest: float, grace: float) -> None:
        """Start nothing yet.

        Args:
            longest: The seconds that the command may take.
            grace: The seconds that it may take after a signal that ends this process.
        """
        self.leave_at = math.inf
        self._longest = longest
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """True from the start until ``wait`` has returned."""
        return self._process is not None

    def start(self, command: str, environment: Mapping[str, str]) -> None:
        """Start the command."""
        try:
            self._process = subprocess.Popen(  # noqa: S602 - --on-lost is a shell command
                command, shell=True, env=dict(environment), stdin=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            _logger.error("--on-lost was not started: %s", error)  # noqa: TRY400 - a traceback adds nothing

    async def wait(self) -> None:
        """Wait until the command has ended. Kill it after its time, or after the grace period that follows a signal."""
        process = self._process
        if process is None:
            return
        began_at = anyio.current_time()
        with anyio.move_on_after(self._longest) as bound:
            while process.poll() is None:
                bound.deadline = min(bound.deadline, max(began_at, self.leave_at) + self._grace)
                await anyio.sleep(0.02)
        self._process = None
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            _logger.warning("--on-lost ended with status %d", exit_status(process.returncode))
