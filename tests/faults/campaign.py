"""A campaign: a cluster, a recorder, candidates, and the faults injected into them."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.candidate import Candidate, Options, end, python_in
from tests.faults.cluster import OPERATOR, Cluster, OperatorError, b64
from tests.faults.history import Cut, Injection
from tests.faults.journal import Journal, folded, now, unfenced
from tests.faults.loader import read_lines
from tests.faults.network import Network

__all__ = ("AbortedError", "Campaign", "NoHolderError", "identity_of")

ELECTION = "faults/election"
REGISTER = "faults/data/register"
_LOOK_EVERY = 0.03
_BACKENDS = ("asyncio", "trio")


class AbortedError(Exception):
    """The suite must end at once."""


class NoHolderError(Exception):
    """There is no leader, although no fault prevents one."""


class Campaign:
    """One campaign: its cluster, candidates, journals and injected faults.

    Attributes:
        cluster: The etcd.
        candidates: The candidates, on asyncio and trio in turn.
        chance: The random generator of all choices, seeded by the suite's seed.
        network: The network of all processes.
        lease: The candidates' lease, in seconds.
    """

    def __init__(
        self, name: str, network: Network, folder: Path, options: Options, *, candidates: int = 4, seed: str = "",
        members: int = 3, version: str | None = None, etcd_args: Sequence[str] = (), aborted: threading.Event | None = None,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True)
        self.name = name
        self.folder = folder
        self.network = network
        self.chance = random.Random(f"{seed} {name}")
        self.options = options
        self.lease = options.lease
        self._aborted = aborted or threading.Event()
        self.login: tuple[str, str] | None = None
        self.injections: list[Injection] = []
        self._size = candidates
        self._journal = Journal(folder / "campaign.jsonl")
        self._etcd_args = etcd_args
        self._recorders: list[tuple[Path, int]] = []
        self._recorder: subprocess.Popen[bytes] | None = None
        self._eras: dict[Path, int] = {}
        self._era = 0
        self.candidates: list[Candidate] = []
        self.cluster = Cluster(network, folder / "etcd", members=members, version=version, extra_args=etcd_args)

    def __enter__(self) -> Self:
        self.cluster.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for candidate in self.candidates:
            candidate.close()
        if self._recorder is not None:
            end(self._recorder)
        self.cluster.kill_all()
        self._journal.close()

    # The election that the next fault affects

    @property
    def prefix(self) -> str:
        """Return the prefix of its candidates' keys."""
        return f"{self.options.election}/"

    def standing(self, *, avoid: int | None = None) -> list[dict[str, str]]:
        """Return its keys in the form of etcd's JSON, the oldest first.

        Raises:
            OperatorError: etcd does not respond.
        """
        return self._keys(self.range, avoid)

    def standing_anywhere(self, *, avoid: int | None = None) -> list[dict[str, str]]:
        """Return the keys of all elections.

        Raises:
            OperatorError: etcd does not respond.
        """
        return self._keys(_range(f"{self.options.election}/"), avoid)

    @property
    def range(self) -> dict[str, str]:
        """Return the range of its keys, in the form of a request in etcd's JSON."""
        return _range(self.prefix)

    def _keys(self, body: dict[str, str], avoid: int | None) -> list[dict[str, str]]:
        found = self.cluster.call("kv/range", body, avoid=avoid).get("kvs", ())
        return sorted(found, key=lambda kv: int(kv["create_revision"]))

    # Candidates and the recorder

    def record(self) -> None:
        """Start a recorder for the present era."""
        if self._recorder is not None:
            end(self._recorder)
        journal = self.folder / f"recorder-{len(self._recorders)}.jsonl"
        self._recorders.append((journal, self._era))
        options = {
            "journal": str(journal),
            "prefix": f"{self.options.election}/",
            "many": bool(self.options.elections),
            "register": REGISTER,
            "endpoints": [f"{host}:{port}" for host, port in self.cluster.clients],
            "login": self.login,
        }
        with journal.with_suffix(".stderr").open("ab") as errors:
            self._recorder = python_in(
                self.network, OPERATOR, "tests.faults.recorder", json.dumps(options),
                stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        assert self._recorder.stdout is not None
        if self._recorder.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the recorder did not start: {journal.with_suffix('.stderr').read_text()[-600:]}")

    def field(self) -> None:
        """Create the candidates and start them."""
        for number in range(self._size):
            backend = _BACKENDS[number % 2]
            self.candidates.append(
                Candidate(
                    f"c{number}",
                    backend,
                    self.network,
                    self.cluster.clients,
                    self.folder,
                    self.options,
                    first=number % len(self.cluster.clients),
                )
            )
            self.start(self.candidates[-1])

    def start(self, candidate: Candidate) -> None:
        """Start a candidate's process in the present era."""
        candidate.start()
        self._eras[candidate.journals[-1]] = self._era

    def begin_era(self) -> None:
        """Begin a new era: the cluster has lost its data, and tokens start again from low numbers."""
        self._era += 1
        self.record()

    # State

    def look(self) -> None:
        """Read the candidates' new journal lines.

        Raises:
            AbortedError: The suite must end.
        """
        if self._aborted.is_set():
            raise AbortedError
        for candidate in self.candidates:
            candidate.look()

    def sleep(self, seconds: float) -> None:
        """Sleep for some seconds, and read the journals meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, _LOOK_EVERY))

    def holder(self) -> Candidate | None:
        """Return the leader by the last reports, or None."""
        self.look()
        believing = [candidate for candidate in self.candidates if candidate.token and candidate.running]
        return max(believing, key=lambda candidate: candidate.token, default=None)

    def wait_holder(self, timeout: float = 25.0, *, above: int = -1) -> Candidate:
        """Wait until a candidate leads with a token above the given one, and return it.

        Raises:
            NoHolderError: There is no such leader in time.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            holder = self.holder()
            if holder is not None and holder.token > above:
                return holder
            time.sleep(_LOOK_EVERY)
        raise NoHolderError(f"no leader after {timeout:g} s")

    def wait_until_over(self, candidate: Candidate, token: int, timeout: float) -> bool:
        """Wait until this candidate no longer leads with this token; return whether it happened in time."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            candidate.look()
            if candidate.token != token:
                return True
            time.sleep(_LOOK_EVERY)
        return False

    def settle(self, *, everybody: bool = False) -> Candidate:
        """Heal everything. Wait until there is a leader and another candidate, or every other one, is in the queue.

        Raises:
            NoHolderError: There is no leader in time.
        """
        if self.network.isolates:
            self.network.heal()
        for candidate in self.candidates:
            candidate.clear()
            if not candidate.running:
                self.died(candidate)
                self.start(candidate)
        for member in self.cluster.members:
            if not member.running:
                member.launch()
        with contextlib.suppress(OperatorError):
            if self.cluster.alarms():
                self.cluster.make_space()  # otherwise no member reports that it is healthy
        for member in self.cluster.members:
            member.wait_healthy()
        holder = self.wait_holder()
        wanted = len(self.candidates) - 1 if everybody else 1
        until = time.monotonic() + (30 if everybody else 10)
        while self.waiting() < wanted and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
        return holder

    def waiting(self) -> int:
        """Return how many running candidates are queued behind the first key. Keys of dead processes do not count."""
        self.look()
        with contextlib.suppress(OperatorError):
            standing = {identity_of(kv["value"]) for kv in self.standing()}
            living = {candidate.identity for candidate in self.candidates if candidate.running}
            return len(standing & living) - 1
        return 0

    def tokens(self) -> dict[str, int]:
        """Return the last reported token of each election, or nothing in a campaign of one election."""
        return {}

    # Faults

    @contextlib.contextmanager
    def injection(self, row: str, note: str, *, keeps: bool = False) -> Iterator[Injection]:
        """Record a fault that lasts from the block's beginning to its end."""
        holder = self.holder()
        injection = Injection(
            row=row, note=note, start=now(), end=0.0, token=holder.token if holder else 0, keeps=keeps,
            tokens=self.tokens(),
        )  # fmt: skip
        try:
            yield injection
        finally:
            injection.end = now()
            self.injections.append(injection)
            self._journal.write("injection", **asdict(injection))

    @contextlib.contextmanager
    def cut(self, injection: Injection, *candidates: Candidate) -> Iterator[None]:
        """Record that these candidates do not reach a quorum, from now to the end of the block."""
        start = now()
        try:
            yield
        finally:
            injection.cuts += [Cut(subject=candidate.name, start=start, end=now()) for candidate in candidates]

    def pin(self, candidate: Candidate, member: int) -> None:
        """Let this candidate reach that member only."""
        for number in range(len(self.cluster.members)):
            candidate.link(number, refuse=number != member)

    def died(self, candidate: Candidate) -> None:
        """Record that a candidate's process has ended, and its exit status."""
        candidate.look()
        run = candidate.journals[-1].stem
        self._journal.write("died", run=run, status=candidate.exit_status)
        if candidate.exit_status not in (0, -9):
            self.complain(f"{run} ended with status {candidate.exit_status}: {candidate.last_output}")

    def complain(self, what: str) -> None:
        """Record a problem of the suite itself, or one that no invariant covers."""
        self._journal.write("fault of the suite", what=what)

    # The end

    def finish(self) -> None:
        """Stop all candidates, and record the keys and leases that they leave behind."""
        for candidate in self.candidates:
            candidate.send_command("stop")
        for candidate in self.candidates:
            if not candidate.wait(15):
                self.complain(f"{candidate.name} did not stop within 15 s")
                candidate.kill()
            self.died(candidate)
        if self._recorder is None or self._recorder.poll() is not None:
            self.complain("the recorder has ended")
        until = time.monotonic() + self.lease + 4
        left = self._left()
        while left and time.monotonic() < until:
            time.sleep(0.2)
            left = self._left()
        for what in left:
            self._journal.write("leftover", what=what)
        time.sleep(0.3)  # for events that the recorder has not received yet

    def abandon(self) -> None:
        """End every candidate at once."""
        for candidate in self.candidates:
            candidate.kill()
            self.died(candidate)

    def _left(self) -> list[str]:
        keys = self.standing_anywhere()
        leases = self.cluster.call("lease/leases", {})
        return [
            *(f"key {kv['key']}" for kv in keys),
            *(f"lease {x['ID']}" for x in leases.get("leases", ())),
        ]

    def look_for(self, secret: str) -> None:
        """Search for a secret in all files that the processes wrote. Command-line options are in no file."""
        for path in self.folder.rglob("*"):
            if path.suffix in (".jsonl", ".log", ".stderr") and secret.encode() in path.read_bytes():
                self._journal.write("secret", where=path.name)

    def history(self) -> Iterator[dict[str, Any]]:
        """Yield every line of every journal, with its candidate and era."""
        common = {"campaign": self.name}
        options = self.options
        yield {
            **common, "kind": "settings", "lease": options.lease, "renew": options.renew, "retry": options.retry,
            "margin": options.margin, "elections": options.elections,
        }  # fmt: skip
        for path, era in self._recorders:
            for line in read_lines(path):
                yield {**common, "era": era, **line, **self._about(line)}
        for candidate in self.candidates:
            yield {**common, "kind": "candidate", "subject": candidate.name, "backend": candidate.backend}
            passed = {**common, "subject": candidate.name}
            yield from ({**passed, **line} for line in read_lines(candidate.proxy_journal))
            for path in filter(Path.exists, candidate.journals):
                facts = {**common, "run": path.stem, "subject": candidate.name, "era": self._eras[path]}
                yield from ({**facts, **line} for line in folded(read_lines(path)))
        yield from ({**common, **line} for line in read_lines(self.folder / "campaign.jsonl"))
        written, late = unfenced(Path(options.shared_list))
        yield {**common, "kind": "unfenced", "written": written, "late": late}

    def _about(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the subject of a recorded event: the register, or an election's key."""
        if line["kind"] not in ("put", "delete"):
            return {}
        key: str = line["key"]
        if key.startswith(REGISTER):
            return {"register": True, "election": key.removeprefix(REGISTER).removeprefix("/")}
        return {"register": False, "election": key.removeprefix(f"{self.options.election}/").rpartition("/")[0]}


def _range(prefix: str) -> dict[str, str]:
    return {"key": b64(prefix), "range_end": b64(f"{prefix[:-1]}0")}


def identity_of(value: str) -> str:
    """Return the identity in a candidate's value, which is in the form of etcd's JSON."""
    text = base64.b64decode(value).decode()
    return str(json.loads(text)["id"]) if text.startswith("{") else text
