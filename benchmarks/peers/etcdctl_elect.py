"""The peer "etcdctl elect": a process for each candidate, which writes two lines when it leads, and resigns on SIGINT.

Its own start is in the time to acquire, and not in the hand-over.
"""

from __future__ import annotations

import signal
import subprocess
import threading

from benchmarks.peers.protocol import Answer, BlockingPeer, now, options, serve
from etcdleader.testing._etcd_binary import find_etcd, find_etcdctl

JOINS_WITHIN = 0.25
"""Seconds. It does not report when it is in the queue."""


class Candidate:
    """An etcdctl."""

    def __init__(self, etcdctl: str, endpoints: str, name: str) -> None:
        self.process = subprocess.Popen(
            [etcdctl, "--endpoints", endpoints, "elect", name, "bench"],
            stdout=subprocess.PIPE,
        )
        self.elected = 0
        self.won = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline():
            self.elected = now()
            self.won.set()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Elections(BlockingPeer):
    """The candidates by name."""

    def __init__(self) -> None:
        self.etcdctl = str(find_etcdctl(find_etcd()))
        self.endpoints = ",".join(options().endpoints)
        self.candidates: dict[str, Candidate] = {}

    def close(self) -> None:
        for candidate in self.candidates.values():
            candidate.process.kill()
            candidate.process.wait()

    def candidate(self, name: str) -> Candidate:
        self.candidates[name] = Candidate(self.etcdctl, self.endpoints, name)
        return self.candidates[name]

    def do_connect(self) -> None:
        """Each has a separate connection."""

    def do_acquire(self, election: str, times: int) -> Answer:
        took = []
        for number in range(times):
            began = now()
            candidate = self.candidate(f"{election}-{number}")
            assert candidate.won.wait(30)
            took.append(candidate.elected - began)
        return {"took": took}

    def do_acquire_cold(self, election: str) -> Answer:
        took = self.do_acquire(election, 1)
        self.do_drop(f"{election}-0")
        return took

    def do_stand(self, election: str) -> None:
        self.candidate(election).won.wait(JOINS_WITHIN)

    def do_wait(self, name: str) -> Answer:
        candidate = self.candidates[name]
        assert candidate.won.wait(30)
        return {"elected": candidate.elected}

    def do_resign(self, name: str) -> Answer:
        called = now()
        self.candidates[name].end()
        return {"called": called, "done": now()}

    def do_drop(self, name: str) -> None:
        candidate = self.candidates.pop(name)
        if candidate.process.poll() is None:
            candidate.end()


if __name__ == "__main__":
    serve(Elections())
