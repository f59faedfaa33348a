"""The candidates of the demo as the stage sees them: processes that report over a pipe."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...testing import _children

_LAST_WORDS = 8


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a candidate.

    Attributes:
        who: The candidate.
        event: What happened: ``elected``, ``ousted``, ``resigning``, ``place``, or ``ended`` for its process.
        facts: The rest of what it said.
    """

    who: Candidate
    event: str
    facts: Mapping[str, Any]


class Candidate:
    """A process that campaigns, and what is known of it.

    Attributes:
        name: Its name.
        leads: Whether it said last that it does.
        killed: Whether it was.
        place: Its place in the queue, 0 for the leader; None before it stands there.
        remaining: Seconds for which it may believe in its lease, as it said last.
        token: The token of its last term; 0 before the first. Likewise ``key``, ``lease_id`` and ``elected_at``.
        resigned_at: When it last began to resign, on the clock that ``elected_at`` is on (``time.monotonic``).
    """

    def __init__(self, name: str, endpoint: str, election_key: str, reports: queue.SimpleQueue[Report]) -> None:
        self.name = name
        self.leads = False
        self.killed = False
        self.place: int | None = None
        self.remaining: float | None = None
        self.token = self.lease_id = 0
        self.key = ""
        self.elected_at = self.resigned_at = 0.0
        self._reports = reports
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        # -P: what lies in the working directory is not imported.
        self._process = _children.spawn(
            [sys.executable, "-P", "-m", "etcdleader._cli.demo.candidate", name, endpoint, election_key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._listen, name=f"demo {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what it wrote that is no report, such as a traceback."""
        return "".join(self._last_words)

    def ask_to_resign(self) -> None:
        """Ask; the answer comes as reports."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and that is reported, too
            os.write(self._process.stdin.fileno(), b"resign\n")

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        _children.kill(self._process)
        self.leads, self.killed, self.place, self.remaining = False, True, None, None

    def close(self) -> None:
        """Kill it, unless it is dead, and close the pipe to it."""
        _children.kill(self._process)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def take(self, report: Report) -> None:
        """Learn from a report."""
        facts = report.facts
        if report.event == "elected":
            self.leads, self.place = True, 0
            self.token, self.key, self.lease_id = facts["token"], facts["key"], facts["lease_id"]
            self.elected_at = facts["at"]
        elif report.event == "resigning":
            self.resigned_at = facts["at"]
        elif report.event == "ousted":
            self.leads, self.place, self.remaining = False, None, None
        elif report.event == "place":
            self.place, self.remaining = facts["place"], facts["remaining"]

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
) -> Iterator[list[Candidate]]:
    """Start candidates, and leave none behind."""
    with ExitStack() as stack:
        cast = []
        for name in names:
            candidate = Candidate(name, endpoint, election_key, reports)
            stack.callback(candidate.close)
            cast.append(candidate)
        yield cast
