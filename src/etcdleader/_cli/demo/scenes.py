"""The scenes of the demo, in order."""

from __future__ import annotations

import queue
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from ...errors import EtcdLeaderError
from ...testing import EtcdServer
from .candidate import LEASE, RENEW
from .processes import CandidateProcess, Leadership, Report, candidates
from .screen import Screen

_NAMES = ("alice", "bob", "carol")
_TIME_LIMIT_SECONDS = 35.0
_ETCD_TIME_LIMIT_SECONDS = 20.0
_WRITE_TIME_LIMIT_SECONDS = 5
_READING_SECONDS = 3.0


class DemoError(EtcdLeaderError):
    """A failure of the demo: an expected event did not happen."""


def play(console: Console) -> None:
    """Show an election from its first leader to its third.

    Raises:
        DemoError: An expected event did not happen, or not in time.
        EtcdServerError: etcd did not start.
        FileNotFoundError: There is no etcd on this machine.
    """
    screen = Screen(console)
    ends_at = time.monotonic() + _TIME_LIMIT_SECONDS
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    # The first call writes a file to test the folder. Do that early: Ctrl-C during it could leave the file behind.
    tempfile.gettempdir()
    screen.say("Starting an etcd, and three candidate processes.")
    with (
        EtcdServer(start_timeout=_ETCD_TIME_LIMIT_SECONDS) as etcd,
        candidates(_NAMES, etcd.endpoints[0], f"demo/{secrets.token_hex(4)}", reports) as cast,
        screen.live(cast),
    ):
        screen.say(f"etcd {etcd.version} serves on {etcd.endpoints[0]}.")
        screen.add(f"A candidate's lease lasts {LEASE:g} s and is renewed every {RENEW:g} s.")
        _Play(screen, cast, reports, etcd.endpoints[0], ends_at).perform()


@dataclass(frozen=True, slots=True)
class _Play:
    _screen: Screen
    _cast: Sequence[CandidateProcess]
    _reports: queue.SimpleQueue[Report]
    _endpoint: str
    _ends_at: float

    def perform(self) -> None:
        screen = self._screen
        self._until(lambda: all(candidate.position is not None for candidate in self._cast))
        first = self._leadership()
        screen.say(f"[bold]{first.candidate.name} leads with token {first.token}[/]. The others wait in the queue.")
        self._pause()

        screen.say(
            f"kill -9 {first.candidate.pid}: {first.candidate.name} is dead, and released nothing. Its lease must expire."
        )
        killed_at = time.monotonic()
        first.candidate.kill()
        second = self._leadership(after=first)
        after_kill = f"{second.since - killed_at:.1f} s"
        screen.say(f"[bold]{second.candidate.name} leads with token {second.token}[/], {after_kill} after the kill.")
        self._pause()

        screen.say(f"A late write by {first.candidate.name} arrives, with token {first.token}.")
        if self._write(first):
            raise DemoError(f"etcd accepted a write with token {first.token}, although its leader is dead")
        screen.add("[bold]etcd refuses it[/]: the key with this token no longer exists.")
        if not self._write(second):
            raise DemoError(f"etcd refused a write with token {second.token}, although it is the leader's")
        screen.add(f"The same write by {second.candidate.name}, with token {second.token}, is accepted.")
        self._pause()

        screen.say(f"{second.candidate.name} resigns.")
        second.candidate.ask_to_resign()
        third = self._leadership(after=second)
        self._until(lambda: second.candidate.resigned_at > second.since)
        after_resignation = f"{(third.since - second.candidate.resigned_at) * 1000:.1f} ms"
        screen.say(
            f"[bold]{third.candidate.name} leads with token {third.token}[/], {after_resignation} after the resignation."
        )
        self._pause()

        screen.table(
            "What happened",
            ("leader", "token", "took over", "ended by"),
            (
                (first.candidate.name, str(first.token), "", "kill -9"),
                (second.candidate.name, str(second.token), f"after {after_kill}", "resignation"),
                (third.candidate.name, str(third.token), f"after {after_resignation}", "the end of the demo"),
            ),
        )
        screen.say(f"One late write was tried, with token {first.token}, and etcd refused it.")

    def _leadership(self, after: Leadership | None = None) -> Leadership:
        """Wait for a leader other than the previous one, and return its term."""
        while True:
            for candidate in self._cast:
                leadership = candidate.leadership
                if leadership is not None and (after is None or candidate is not after.candidate):
                    if after is not None and leadership.token <= after.token:
                        raise DemoError(f"token {leadership.token} followed token {after.token}: tokens must increase")
                    return leadership
            self._receive(self._ends_at)

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._receive(self._ends_at)

    def _pause(self) -> None:
        """Give a viewer time to read, while the table stays live."""
        if self._screen.interactive:
            ends_at = time.monotonic() + _READING_SECONDS
            while time.monotonic() < ends_at:
                self._receive(ends_at)

    def _receive(self, until: float) -> None:
        """Receive one report, or return at the time ``until``."""
        try:
            report = self._reports.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            if until == self._ends_at:
                raise DemoError(f"an expected event did not happen within {_TIME_LIMIT_SECONDS:g} s") from None
            return
        if report.event == "ended" and not report.candidate.killed:
            raise DemoError(
                f"the process of {report.candidate.name} ended unexpectedly.\n{report.candidate.last_words}"
            )
        report.candidate.take(report)

    def _write(self, leadership: Leadership) -> bool:
        """Send a write with the term's token. Return whether etcd accepted it."""
        # Imported late, so that the first line of the demo does not wait for gRPC.
        from ...etcd3 import etcd3, guard_compares

        host, _, port = self._endpoint.rpartition(":")
        client = etcd3.client(host=host, port=int(port), timeout=_WRITE_TIME_LIMIT_SECONDS)
        try:
            taken, _ = client.transaction(
                compare=guard_compares(leadership.key, leadership.token, leadership.lease_id),
                success=[client.transactions.put("demo/last-writer", leadership.candidate.name)],
                failure=[],
            )
        finally:
            client.close()
        return bool(taken)
