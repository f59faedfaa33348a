"""The candidate processes of the demo. They report events over a pipe."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...testing import _children

_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Report:
    """An event that a candidate reported.

    Attributes:
        candidate: The candidate.
        event: ``elected``, ``ousted``, ``resigning``, ``position``, or ``ended`` if its process has ended.
        facts: The event's values.
    """

    candidate: CandidateProcess
    event: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leadership:
    """A term. Its values remain after the candidate's process has died.

    Attributes:
        candidate: The candidate.
        token: The token of the term. ``key`` and ``lease_id`` are that term's.
        since: The time of the election, on a clock that all processes of a machine share (``time.monotonic``).
    """

    candidate: CandidateProcess
    token: int
    key: str
    lease_id: int
    since: float


class CandidateProcess:
    """A process that campaigns, and its last reported state.

    Attributes:
        name: The candidate's name.
        leadership: Its term while it leads, by its last report.
        killed: Whether the demo has killed it.
        position: The position in the queue, 0 for the leader; None while it is not in the queue.
        remaining: The seconds for which its lease is valid, by its last report.
        resigned_at: The time of its last resignation, on the clock of ``Leadership.since``.
    """

    def __init__(self, name: str, endpoint: str, election_key: str, reports: queue.SimpleQueue[Report]) -> None:
        self.name = name
        self.leadership: Leadership | None = None
        self.killed = False
        self.position: int | None = None
        self.remaining: float | None = None
        self.resigned_at = 0.0
        self._reports = reports
        self._last_words: deque[str] = deque(maxlen=_LAST_LINES)
        # -P: modules in the working directory are not imported.
        self._process = _children.spawn(
            [sys.executable, "-P", "-m", "etcdleader._cli.demo.candidate", name, endpoint, election_key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._listen, name=f"demo {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of its output that is not a report, such as a traceback."""
        return "".join(self._last_words)

    def ask_to_resign(self) -> None:
        """Request a resignation. The candidate reports the outcome."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended, which is reported, too
            os.write(self._process.stdin.fileno(), b"resign\n")

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is dead."""
        _children.kill(self._process)
        self.leadership, self.killed, self.position, self.remaining = None, True, None, None

    def close(self) -> None:
        """Kill the process, unless it is dead, and close the pipe to it."""
        _children.kill(self._process)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def take(self, report: Report) -> None:
        """Update the state from a report."""
        facts = report.facts
        if report.event == "elected":
            self.leadership = Leadership(self, facts["token"], facts["key"], facts["lease_id"], facts["at"])
            self.position = 0
        elif report.event == "resigning":
            self.resigned_at = facts["at"]
        elif report.event == "ousted":
            self.leadership = self.position = self.remaining = None
        elif report.event == "position":
            self.position, self.remaining = facts["position"], facts["remaining"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    facts = json.loads(line)
                except ValueError:
                    self._last_words.append(line.decode(errors="replace"))
                else:
                    self._reports.put(Report(self, facts["event"], facts))
        self._reports.put(Report(self, "ended", {}))


@contextmanager
def candidates(
    names: Sequence[str], endpoint: str, election_key: str, reports: queue.SimpleQueue[Report]
) -> Iterator[list[CandidateProcess]]:
    """Start candidates, and kill all of them at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(CandidateProcess(name, endpoint, election_key, reports))) for name in names]
