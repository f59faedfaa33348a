"""The worker of the peer "bare calls". The calls are in `bare_calls.py`."""

from __future__ import annotations

import queue
import time
from typing import Any

from benchmarks.peers.bare_calls import RPC, TIMEOUT, BareCalls, after, in_waves, numbered
from benchmarks.peers.protocol import SECOND, Answer, die, now, serve


class Bare(BareCalls):
    """Its commands."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def do_connect(self) -> None:
        self.kv.Range(RPC.RangeRequest(key=b"warm"), timeout=TIMEOUT)

    def do_acquire(self, election: str, times: int) -> Answer:
        took = []
        for number in range(times):
            name = f"{election}-{number}"
            began = now()
            candidate = self.join(name)
            took.append(candidate.elected - began)
            self.keep(name, candidate)
        return {"took": took}

    def do_acquire_cold(self, election: str) -> Answer:
        self.channel.close()
        began = now()
        self.connect()
        candidate = self.join(election)
        took = candidate.elected - began
        self.leases.LeaseRevoke(RPC.LeaseRevokeRequest(ID=candidate.lease), timeout=TIMEOUT)
        return {"took": [took]}

    def do_stand(self, election: str, name: str = "") -> None:
        candidate = self.join(election)
        self.keep(name or election, candidate)
        self.await_turns([candidate])

    def do_crowd(self, election: str, many: int) -> None:
        self.await_turns(self.join_many({f"{election}#{number}": election for number in range(many)}))

    def do_wait(self, name: str) -> Answer:
        candidate = self.candidates[name]
        assert candidate.won.wait(TIMEOUT), f"{name} was not won"
        return {"elected": candidate.elected}

    def do_resign(self, name: str) -> Answer:
        candidate = self.candidates[name]
        called = now()
        self.leases.LeaseRevoke(RPC.LeaseRevokeRequest(ID=candidate.lease), timeout=TIMEOUT)
        done = now()
        self.forget(name)
        return {"called": called, "done": done}

    def do_drop(self, name: str) -> None:
        if name in self.candidates:
            candidate = self.forget(name)
            if candidate.watch is not None and self.by_watch.pop(candidate.watch, None) is not None:
                self.cancel_watch(candidate.watch)
            self.leases.LeaseRevoke(RPC.LeaseRevokeRequest(ID=candidate.lease), timeout=TIMEOUT)

    def do_deleted(self, election: str) -> Answer:
        """When the next candidate's key of an election goes: an observer, beside all candidates."""
        prefix = f"{election}/".encode()
        request = RPC.WatchCreateRequest(key=prefix, range_end=after(prefix), filters=[0])
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put(RPC.WatchRequest(create_request=request))
        answers = RPC.WatchStub(self.channel).Watch(iter(requests.get, None))
        for answer in answers:
            if answer.events:
                deleted = now()
                answers.cancel()
                return {"deleted": deleted}
        raise AssertionError("the watch ended")

    def do_write(self, rate: float) -> None:
        """Write beside the elections, evenly, until the process ends."""
        begin = time.monotonic()
        for number in range(10_000_000):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            self.kv.Put(RPC.PutRequest(key=b"unrelated", value=b"%d" % number), timeout=TIMEOUT)
            self.written += 1

    def do_puts(self, prefix: str, bursts: int, size: int) -> None:
        """Write in bursts, then one key more. Each value is the time of its put."""
        for _ in range(bursts):
            puts = [
                self.kv.Put.future(
                    RPC.PutRequest(key=f"{prefix}{number}".encode(), value=b"%d" % now()), timeout=TIMEOUT
                )
                for number in range(size)
            ]
            for put in puts:
                put.result()
        self.kv.Put(RPC.PutRequest(key=f"{prefix}last".encode(), value=b"%d" % now()), timeout=TIMEOUT)

    def do_written(self) -> Answer:
        return {"written": self.written}

    def do_extend(self, name: str, times: int) -> Answer:
        """Send a keep-alive on the open stream, a proposal that changes nothing, and a read."""
        candidate = self.candidates[name]
        request = RPC.RangeRequest(key=candidate.key)
        never = RPC.Compare(result=RPC.Compare.LESS, target=RPC.Compare.VERSION, key=candidate.key, version=0)
        delete = RPC.RequestOp(request_delete_range=RPC.DeleteRangeRequest(key=candidate.key))
        proposal = RPC.TxnRequest(compare=[never], success=[delete])
        took = []
        for _ in range(times):
            began = now()
            assert self.to_renew is not None
            self.to_renew.put(RPC.LeaseKeepAliveRequest(ID=candidate.lease))
            self.answered.get(timeout=TIMEOUT)
            self.kv.Txn(proposal, timeout=TIMEOUT)
            self.kv.Range(request, timeout=TIMEOUT)
            took.append(now() - began)
        return {"took": took}

    def do_die(self, name: str, number: int) -> None:
        die(number, self.candidates[name].renewed + self.options.lease * SECOND)

    def do_hold(self, election: str, many: int) -> Answer:
        began = now()
        self.join_many(numbered(election, many))
        return {"began": began, "done": now()}

    def do_stand_many(self, election: str, many: int) -> None:
        self.await_turns(self.join_many(numbered(election, many)))

    def do_wait_many(self, election: str, many: int) -> Answer:
        return {"last": max(self.do_wait(f"{election}-{number}")["elected"] for number in range(many))}

    def do_drop_many(self, election: str, many: int) -> Answer:
        called = now()
        for names in in_waves(list(numbered(election, many))):
            leases = [self.forget(name).lease for name in names]
            revoked = [
                self.leases.LeaseRevoke.future(RPC.LeaseRevokeRequest(ID=lease), timeout=TIMEOUT) for lease in leases
            ]
            for one in revoked:
                one.result()
        return {"called": called}

    def do_lost(self) -> Answer:
        """Return the names whose lease has expired by now."""
        limit = now() - self.options.lease * SECOND
        return {"lost": sum(candidate.renewed < limit for candidate in self.by_lease.values())}


if __name__ == "__main__":
    serve(Bare())
