"""The peer "kazoo Election": kazoo's recipe on ZooKeeper. It needs a thread for each candidate."""

from __future__ import annotations

import logging
import threading

from kazoo.client import KazooClient

from benchmarks.peers.protocol import Answer, BlockingPeer, now, options, serve


class Candidate:
    """A thread that runs for an election until it is let go."""

    def __init__(self, client: KazooClient, name: str) -> None:
        self.election = client.Election(f"/{name}", "bench")
        self.elected = 0
        self.won = threading.Event()
        self.leave = threading.Event()
        self.left = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        self.election.run(self.lead)
        self.left.set()

    def lead(self) -> None:
        self.elected = now()
        self.won.set()
        self.leave.wait()


class Elections(BlockingPeer):
    """One session for all."""

    def __init__(self) -> None:
        self.client = KazooClient(hosts=options().endpoints[0], timeout=10)
        self.client.start(timeout=30)
        self.candidates: dict[str, Candidate] = {}

    def do_connect(self) -> None:
        self.client.exists("/warm")

    def do_acquire(self, election: str, times: int) -> Answer:
        took = []
        for number in range(times):
            name = f"{election}-{number}"
            began = now()
            candidate = self.candidates[name] = Candidate(self.client, name)
            assert candidate.won.wait(30)
            took.append(candidate.elected - began)
        return {"took": took}

    def do_stand(self, election: str) -> None:
        self.candidates[election] = Candidate(self.client, election)

    def do_wait(self, name: str) -> Answer:
        candidate = self.candidates[name]
        assert candidate.won.wait(30)
        return {"elected": candidate.elected}

    def do_resign(self, name: str) -> Answer:
        candidate = self.candidates[name]
        called = now()
        candidate.leave.set()
        assert candidate.left.wait(30)
        return {"called": called, "done": now()}

    def do_drop(self, name: str) -> None:
        candidate = self.candidates.pop(name)
        candidate.election.cancel()
        candidate.leave.set()
        assert candidate.left.wait(30)


if __name__ == "__main__":
    logging.disable()
    serve(Elections())
