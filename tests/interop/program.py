"""Candidates in other processes, which are driven alike whatever language they are written in.

A program reads commands from its standard input, one a line, as words:

- ``campaign NAME ELECTION TTL``: join the queue with a lease of so many seconds, and print ``elected`` when leading.
- ``resign NAME``: leave the queue, release the lease, and print ``resigned``.
- ``proclaim NAME VALUE``: change the leader's value, and print ``proclaimed``.
- ``observe NAME ELECTION``: print ``observed`` for each leader, the current one first.
- ``leader NAME ELECTION``: print ``leader`` once, without a key if there is none.

It prints events, one JSON object a line, with ``name`` and ``event``. Events about a key have ``key``, ``value``,
``token`` (its create_revision) and ``lease``. A program prints ``lost`` when a leader or a waiting candidate loses its
lease, and ``failed`` with ``error`` when a command fails. It ends at the end of its input.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from etcdleader.testing._children import kill, spawn

__all__ = ("PATIENCE_SECONDS", "Candidate", "Event", "Inbox", "Program", "Record")

PATIENCE_SECONDS = 60.0
"""Seconds to wait for any event: more than the slowest machine needs."""
FAREWELL_SECONDS = 10.0

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A candidate's key, as one of the libraries reported it.

    Attributes:
        token: The key's create_revision.
        lease: The lease's id.
    """

    key: str
    value: str
    token: int
    lease: int

    @classmethod
    def of(cls, event: Event) -> Record:
        return cls(event["key"], event["value"], event["token"], event["lease"])


class Inbox:
    """The events of one candidate, observer or query, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        self._events.put(event)

    def get(self, *expected: str) -> Event:
        """Wait for the next event and return it.

        Raises:
            AssertionError: It is none of the expected ones, or does not come.
        """
        words = " or ".join(expected)
        try:
            event = self._events.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"{self.name}: no {words} within {PATIENCE_SECONDS:g} s") from None
        assert event["event"] in expected, f"{self.name}: expected {words}, received {event}"
        return event

    def is_empty(self) -> bool:
        return self._events.empty()


class Candidate:
    """A place in a queue, held by whatever library."""

    def __init__(self, inbox: Inbox, resign: Callable[[], None]) -> None:
        self.name = inbox.name
        self.inbox = inbox
        self._resign = resign

    def wait_elected(self) -> Record:
        """Wait until the library reports that this candidate leads, and return its key."""
        return Record.of(self.inbox.get("elected"))

    def resign(self) -> None:
        """Leave the queue, and return when that is done."""
        self._resign()
        self.inbox.get("resigned")

    def is_silent(self) -> bool:
        """Return whether all that it has reported so far has been received."""
        return self.inbox.is_empty()


class Lines:
    """A process whose output is read line by line in a thread. It is killed when this process ends."""

    def __init__(
        self,
        argv: Sequence[str],
        on_line: Callable[[bytes], None],
        on_end: Callable[[int], None],
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            argv: The program and its arguments.
            on_line: Called for each line, in the thread.
            on_end: Called with the exit status, in the thread.
            env: The environment; None for this process's.
        """
        self.process = spawn(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._on_line, self._on_end = on_line, on_end
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._on_line(line)
        self._on_end(self.process.wait())

    def kill(self) -> None:
        """Kill the process with SIGKILL, and wait until all of its output is read."""
        kill(self.process)
        self.close()

    def close(self) -> None:
        """Let the process end at the end of its input, and kill it if it does not."""
        with suppress(BrokenPipeError):  # it has ended by itself
            self.input.close()
        self._thread.join(FAREWELL_SECONDS)
        if self._thread.is_alive():
            kill(self.process)
            self._thread.join(FAREWELL_SECONDS)


class Program:
    """A process that speaks the protocol. It may hold many candidates."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._argv = argv
        self._lock = threading.Lock()
        self._inboxes: dict[str, Inbox] = {}
        self._lines = Lines(argv, self._receive, self._ended, env=env)

    def inbox(self, name: str) -> Inbox:
        """Make the inbox of a new name."""
        with self._lock:
            assert name not in self._inboxes
            return self._inboxes.setdefault(name, Inbox(name))

    def send(self, *words: str) -> None:
        """Send a command.

        Raises:
            AssertionError: The process has ended.
        """
        try:
            self._lines.input.write(" ".join(words).encode() + b"\n")
            self._lines.input.flush()
        except BrokenPipeError as error:
            raise AssertionError(f"{self._argv} has ended: {words} cannot be sent") from error

    def kill(self) -> None:
        self._lines.kill()

    def close(self) -> None:
        self._lines.close()

    def _receive(self, line: bytes) -> None:
        event: Event = json.loads(line)
        with self._lock:
            inbox = self._inboxes[event["name"]]
        inbox.put(event)

    def _ended(self, status: int) -> None:
        with self._lock:
            for inbox in self._inboxes.values():
                inbox.put({"event": "ended", "status": status})
