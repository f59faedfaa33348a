"""The libraries whose candidates share a queue: etcdleader, etcd's Go client, jetcd and etcdctl."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

from tests.helpers.paths import ROOT
from tests.interop.build import SERIES, BuildError, MissingToolError, etcdctl, go_candidate, java_candidate
from tests.interop.program import Candidate, Event, Inbox, Lines, Program, Record

__all__ = ("ETCDCTL", "FOREIGN", "LIBRARIES", "LONG_TTL", "OURS", "Libraries", "Library", "Ours", "ProgramLibrary")

LONG_TTL = 60
"""Seconds, for tests without a death. It is also the TTL that ``etcdctl elect`` always uses."""

_numbers = count(1)


class Library(ABC):
    """One implementation of the election, on one etcd.

    Attributes:
        name: Its name in the tests' ids and at the beginning of its candidates' names.
        short_lease: Whether a candidate may choose its TTL.
    """

    short_lease = True

    def __init__(self, name: str) -> None:
        self.name = name

    def unique_name(self) -> str:
        return f"{self.name}-{next(_numbers)}"

    @abstractmethod
    def campaign(self, election: str, ttl: int = LONG_TTL) -> Candidate:
        """Start a candidate and return at once. It may not have joined the queue by then."""

    @abstractmethod
    def observe(self, election: str) -> Inbox:
        """Start an observer."""

    @abstractmethod
    def leader(self, election: str) -> Record | None:
        """Ask for the leader."""

    @abstractmethod
    def kill(self) -> None:
        """Kill its processes with SIGKILL. The next call starts new ones."""

    @abstractmethod
    def end_test(self) -> None:
        """End what a test has left behind, if that can be done without ending what tests share."""

    @abstractmethod
    def close(self) -> None:
        """End its processes."""


class ProgramLibrary(Library):
    """A library whose candidates share one process that speaks the protocol."""

    def __init__(self, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> None:
        super().__init__(name)
        self._argv, self._env = argv, env
        self._running: Program | None = None

    @property
    def program(self) -> Program:
        """The process, which is started at its first use: a Java machine takes a second."""
        if self._running is None:
            self._running = Program(self._argv, self._env)
        return self._running

    def _send(self, op: str, *arguments: str) -> Inbox:
        inbox = self.program.inbox(self.unique_name())
        self.program.send(op, inbox.name, *arguments)
        return inbox

    def campaign(self, election: str, ttl: int = LONG_TTL) -> Candidate:
        inbox = self._send("campaign", election, str(ttl))
        return Candidate(inbox, lambda: self.program.send("resign", inbox.name))

    def proclaim(self, leader: Candidate, value: str) -> None:
        """Change a leader's value, and return when that is done."""
        self.program.send("proclaim", leader.name, value)
        leader.inbox.get("proclaimed")

    def observe(self, election: str) -> Inbox:
        return self._send("observe", election)

    def leader(self, election: str) -> Record | None:
        event = self._send("leader", election).get("leader")
        return Record.of(event) if "key" in event else None

    def kill(self) -> None:
        self.program.kill()
        self._running = None

    def end_test(self) -> None:
        """Keep the process and what is left in it, since a new process may take a second to start."""

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


class Ours(ProgramLibrary):
    """etcdleader."""

    def __init__(self, backend: str, endpoint: str) -> None:
        argv = [sys.executable, "-m", "tests.interop.candidates.ours", backend, endpoint]
        super().__init__(f"etcdleader-{backend}", argv, {**os.environ, "PYTHONPATH": str(ROOT)})

    def rejoin(self, leader: Candidate) -> None:
        """Let a leader resign and rejoin the queue at its end."""
        self.program.send("rejoin", leader.name)
        leader.inbox.get("rejoining")

    def candidates(self, election: str) -> list[Record]:
        """Return the queue as ``manager.candidates()`` does."""
        event = self._send("candidates", election).get("candidates")
        return [Record.of(record) for record in event["records"]]


class Etcdctl(Library):
    """``etcdctl elect`` of one release series, with a process for each candidate and observer."""

    short_lease = False

    def __init__(self, series: str, endpoint: str) -> None:
        super().__init__(f"etcdctl-{series}")
        self._argv = [str(etcdctl(series)), "--endpoints", endpoint, "--write-out", "json", "elect"]
        self._running: list[Lines] = []

    def _start(self, inbox: Inbox, event: str, on_end: Callable[[int], None], *arguments: str) -> Lines:
        def on_line(line: bytes) -> None:
            inbox.put({"event": event, **_record_fields(json.loads(line)["kvs"][0])})

        lines = Lines([*self._argv, *arguments], on_line, on_end)
        self._running.append(lines)
        return lines

    def campaign(self, election: str, ttl: int = LONG_TTL) -> Candidate:
        assert ttl == LONG_TTL, "etcdctl elect has no option for it"
        inbox = Inbox(self.unique_name())
        leaving = threading.Event()

        def on_end(status: int) -> None:
            inbox.put({"event": "resigned" if leaving.is_set() else "lost", "status": status})

        def resign() -> None:
            leaving.set()
            lines.process.send_signal(signal.SIGINT)

        lines = self._start(inbox, "elected", on_end, election, inbox.name)
        return Candidate(inbox, resign)

    def observe(self, election: str) -> Inbox:
        return self._observe(election)[0]

    def _observe(self, election: str) -> tuple[Inbox, Lines]:
        inbox = Inbox(self.unique_name())

        def on_end(status: int) -> None:
            inbox.put({"event": "ended", "status": status})

        return inbox, self._start(inbox, "observed", on_end, "--listen", election)

    def leader(self, election: str) -> Record | None:
        """Return the first leader that a new observer reports. It waits for one if there is none."""
        inbox, lines = self._observe(election)
        record = Record.of(inbox.get("observed"))
        lines.kill()
        return record

    def kill(self) -> None:
        for lines in self._running:
            lines.kill()
        self._running.clear()

    close = end_test = kill


def _record_fields(kv: Event) -> Event:
    key, value = (base64.b64decode(kv[name]).decode() for name in ("key", "value"))
    return {"key": key, "value": value, "token": kv["create_revision"], "lease": kv["lease"]}


_FACTORIES: dict[str, Callable[[str], Library]] = {
    "etcdleader-asyncio": partial(Ours, "asyncio"),
    "etcdleader-trio": partial(Ours, "trio"),
    "go": lambda endpoint: ProgramLibrary("go", [*go_candidate(), endpoint]),
    "jetcd": lambda endpoint: ProgramLibrary("jetcd", [*java_candidate(), endpoint]),
    **{f"etcdctl-{series}": partial(Etcdctl, series) for series in SERIES},
}
LIBRARIES = tuple(_FACTORIES)
OURS = tuple(name for name in LIBRARIES if name.startswith("etcdleader"))
ETCDCTL = tuple(name for name in LIBRARIES if name.startswith("etcdctl"))
FOREIGN = tuple(name for name in LIBRARIES if name not in OURS)


class Libraries:
    """The libraries on one etcd. Each is made once, at its first use."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._made: dict[str, Library] = {}
        self._failed: dict[str, MissingToolError | BuildError] = {}

    def __getitem__(self, name: str) -> Library:
        """Return a library. A build that has failed is not tried again.

        Raises:
            MissingToolError: It cannot run on this machine.
            BuildError: It could not be built.
        """
        if name in self._failed:
            raise self._failed[name]
        if name not in self._made:
            try:
                self._made[name] = _FACTORIES[name](self._endpoint)
            except (MissingToolError, BuildError) as error:
                self._failed[name] = error
                raise
        return self._made[name]

    def end_test(self) -> None:
        for library in self._made.values():
            library.end_test()

    def close(self) -> None:
        for library in self._made.values():
            library.close()
