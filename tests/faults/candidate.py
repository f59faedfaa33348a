"""A candidate as the campaign handles it: its process, its proxy, its node, and its last reported state."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcdleader.testing import _children
from tests.faults.journal import Tail, now
from tests.faults.network import Network
from tests.helpers.paths import ROOT

__all__ = ("Candidate", "Options", "end", "python_in")


WORKS = ("task", "thread", "step")
"""The ways in which the work of a process runs: in a task, in a thread, or step by step."""
_LAST_OUTPUT = 4000
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The common options of all candidates of a campaign.

    Attributes:
        elections: The names below ``election`` in which each process campaigns. If empty, it campaigns in ``election``.
        pace: The factor by which the work of a term is slowed down, because hundreds write to one etcd.
        renewals: Whether each confirmed renewal is recorded.
        source: A folder with another copy of the package to run, or None for the installed one.
    """

    election: str
    register: str
    shared_list: str
    lease: float = 8.0
    renew: float = 1.0
    retry: float = 1.0
    margin: float = 1.0
    user: str | None = None
    password: str | None = None
    elections: tuple[str, ...] = ()
    pace: float = 1.0
    renewals: bool = False
    source: Path | None = None


def python_in(network: Network, node: str, *arguments: str, source: Path | None = None, **streams: Any) -> Any:
    """Start this suite's Python in a node. It ends with this process."""
    env = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    env["PYTHONPATH"] = os.pathsep.join([*([str(source)] if source else []), str(ROOT)])
    command = network.command(node, [sys.executable, "-m", *arguments])
    return _children.spawn(command, env=env, **streams)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and close its streams."""
    _children.kill(process)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Candidate:
    """One candidate. Each start creates a new process with a new journal.

    Attributes:
        name: ``c0`` and so on; also its node's name.
        backend: Its event loop: asyncio or trio.
        aim: In a campaign of many elections, the one that ``token`` and ``identity`` refer to. Otherwise empty.
        tokens: The token with which it leads in each election, by its last report.
        commands_begun: The number of commands to its work that it has begun to execute.
    """

    def __init__(
        self, name: str, backend: str, network: Network, members: list[tuple[str, int]], folder: Path, options: Options,
        *, first: int,
    ) -> None:  # fmt: skip
        self.name = name
        self.backend = backend
        self.options = options
        self.journals: list[Path] = []
        self.aim = ""
        self.tokens: dict[str, int] = {}
        self.commands_begun = 0
        self._identities: dict[str, str] = {}
        self._network = network
        self._folder = folder
        self._runs = 0
        self._number = int("".join(filter(str.isdigit, name)) or 0)
        self._tail: Tail | None = None
        self._process: subprocess.Popen[bytes] | None = None
        network.add(name)
        ports = [network.port(12379 + number) for number in range(len(members))]
        links = [f"{port}:{host}:{to}" for port, (host, to) in zip(ports, members, strict=True)]
        order = [*range(first, len(ports)), *range(first)]
        self.endpoints = [f"127.0.0.1:{ports[number]}" for number in order]
        self.proxy_journal = folder / f"proxy-{name}.jsonl"
        with self.proxy_journal.with_suffix(".stderr").open("ab") as errors:
            self._proxy = python_in(
                network, name, "tests.faults.proxy", str(self.proxy_journal), *links,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        if self._proxy.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the proxy of {name} did not start; see {self.proxy_journal.with_suffix('.stderr')}")

    # Its process

    def start(self) -> None:
        """Start it, or start it again."""
        if self._process is not None:
            end(self._process)
        self._runs += 1
        journal = self._folder / f"{self.name}-{self._runs}.jsonl"
        self.journals.append(journal)
        self._tail = Tail(journal)
        self._identities, self.tokens = {}, {}
        facts = {slot: getattr(self.options, slot) for slot in self.options.__slots__ if slot != "source"}
        facts |= {
            "name": self.name, "backend": self.backend, "endpoints": self.endpoints, "journal": str(journal),
            "work": self._next_work(),
        }  # fmt: skip
        with journal.with_suffix(".stderr").open("ab") as errors:
            self._process = self._spawn(
                json.dumps(facts), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
            )

    def _next_work(self) -> str:
        """Return in which way the next process works: another one at each start, so that each meets both loops.

        Hundreds of elections would need hundreds of threads.
        """
        if self.options.elections:
            return WORKS[0]
        return WORKS[(self._number + self._runs - 1) % len(WORKS)]

    def _spawn(self, facts: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start the program that campaigns."""
        process: subprocess.Popen[bytes] = python_in(
            self._network, self.name, "tests.faults.subject", facts, source=self.options.source, **streams
        )
        return process

    @property
    def running(self) -> bool:
        """True while its process exists."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the pid of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Return the exit status of its process."""
        return None if self._process is None else self._process.poll()

    @property
    def last_output(self) -> str:
        """Return the end of its process's stderr: the traceback, if it failed."""
        return self.journals[-1].with_suffix(".stderr").read_text(errors="replace")[-_LAST_OUTPUT:]

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None:
            _children.kill(self._process)
        self.look()
        self.tokens.clear()

    def freeze(self) -> None:
        """Send SIGSTOP, and return when the process has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Send SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def send_command(self, command: str) -> None:
        """Send it a command for the election that faults are aimed at."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{self.aim or '-'} {command}\n".encode())
            self._process.stdin.flush()

    def wait(self, timeout: float) -> bool:
        """Wait until its process has ended."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return not self.running

    def close(self) -> None:
        """End its process and its proxy."""
        for process in (self._process, self._proxy):
            if process is not None:
                end(process)

    # Reported state

    @property
    def token(self) -> int:
        """Return the token with which it leads, by its last report, or 0."""
        return self.tokens.get(self.aim, 0)

    @property
    def identity(self) -> str:
        """Return its manager's identity, or an empty string until it has reported one."""
        return self._identities.get(self.aim, "")

    def look(self) -> list[dict[str, Any]]:
        """Read its new journal lines, and return them."""
        lines = self._tail.read() if self._tail is not None else []
        for line in lines:
            if line["kind"] == "start":
                self._identities = line["identities"]
            elif line["kind"] == "belief":
                self.tokens[line["election"]] = line["token"]
            elif line["kind"] == "over":
                self.tokens.pop(line["election"], None)
            elif line["kind"] == "command":
                self.commands_begun += 1
        return lines

    def everything(self) -> list[dict[str, Any]]:
        """Return all that its present, or last, process has written."""
        return Tail(self.journals[-1]).read()

    # Its network

    def link(self, member: int | None = None, **changes: Any) -> float:
        """Change its link to one member, or to all. Return the time of the change."""
        for number in range(len(self.endpoints)) if member is None else (member,):
            self._ask({"member": number, **changes})
        return now()

    def clear(self) -> None:
        """Remove all faults of its links."""
        self.link(
            refuse=False, stall=False, drop_up=False, drop_down=False, drop_watch=False, delay_up=0.0, delay_down=0.0,
            slow_close=0.0,
        )  # fmt: skip

    def used_member(self) -> int:
        """Return the member that it used last."""
        return int(self._ask({"ask": "used"})["used"])

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        self._proxy.stdin.write(json.dumps(command).encode() + b"\n")
        self._proxy.stdin.flush()
        answer = self._proxy.stdout.readline().decode()
        return dict(json.loads(answer)) if answer.startswith("{") else {}
