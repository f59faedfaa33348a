"""What it costs to hold many elections in one process, beside the bare calls: how long until all lead, how much memory
and how many threads, the processor's time at rest, and what is asked of etcd meanwhile.

Each candidate process is a fresh one, on an embedded etcd of its own. The bare calls are a lease and a key for each
election, by etcd3's stubs; at rest, the same keep-alives and the same reads, from one thread. Nothing is decided there,
and nothing is noticed: it is what gRPC's Python costs.

    python benchmarks/bench_many.py [how many elections ...]
"""

from __future__ import annotations

import gc
import http.client
import itertools
import json
import os
import queue
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio

from etcdleader.testing import EtcdServer

MANY = (1, 100, 1000)
LEASE, RENEW, RETRY = 60, 15, 5
REST = 3 * RENEW
PER_READ = 128
BARE, OURS = "bare calls", "etcdleader"


def said(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def wait_for_word() -> None:
    """Until the parent has looked at etcd's counters."""
    sys.stdin.readline()


# etcdleader


async def hold(endpoint: str, many: int) -> None:
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager

    config = Config(enabled=True, lease=LEASE, renew=RENEW, retry=RETRY)
    client = EtcdConfig(endpoints=endpoint)
    warm = EtcdLeaderManager(client, config, "bench/warm")
    managers = [EtcdLeaderManager(client, config, f"bench/{number}") for number in range(many)]
    async with warm, anyio.create_task_group() as group:
        await warm.wait_elected()
        gc.collect()
        before, began = resident(), time.perf_counter()
        for manager in managers:
            group.start_soon(manager.campaign)
        for manager in managers:
            await manager.wait_elected()
        elected = time.perf_counter() - began
        await anyio.sleep(RENEW)  # so that the first renewals are over
        gc.collect()
        said(elected=elected, bytes=(resident() - before) / many, threads=threads())
        await anyio.to_thread.run_sync(wait_for_word)
        cpu, began = time.process_time(), time.perf_counter()
        await anyio.sleep(REST)
        busy = (time.process_time() - cpu) / (time.perf_counter() - began)
        said(busy=busy, leads=sum(manager.is_leader() for manager in managers))
        await anyio.to_thread.run_sync(wait_for_word)
        group.cancel_scope.cancel()


# The bare calls


def hold_bare(endpoint: str, many: int) -> None:
    import grpc

    from etcdleader.etcd3 import etcd3

    rpc = etcd3.etcdrpc
    channel = grpc.insecure_channel(endpoint)
    lease, kv = rpc.LeaseStub(channel), rpc.KVStub(channel)
    ids = [random.getrandbits(62) + 1 for _ in range(many)]
    keys = [b"bench/%d/%x" % pair for pair in enumerate(ids)]
    kv.Range(rpc.RangeRequest(key=b"warm"))
    before, began = resident(), time.perf_counter()
    for lease_id, key in zip(ids, keys, strict=True):
        lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=LEASE, ID=lease_id))
        kv.Put(rpc.PutRequest(key=key, value=b"bench", lease=lease_id))
    elected = time.perf_counter() - began
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = lease.LeaseKeepAlive(iter(requests.get, None))
    renew(rpc, kv, requests, answers, ids, keys)
    said(elected=elected, bytes=(resident() - before) / many, threads=threads())
    wait_for_word()
    cpu, began = time.process_time(), time.perf_counter()
    portions = list(zip(portioned(ids), portioned(keys), strict=True))
    for number in itertools.count():
        due = began + RENEW * (number + 1) / len(portions)
        if due > began + REST:
            break
        time.sleep(max(0.0, due - time.perf_counter()))
        renew(rpc, kv, requests, answers, *portions[number % len(portions)])
    time.sleep(max(0.0, began + REST - time.perf_counter()))
    said(busy=(time.process_time() - cpu) / (time.perf_counter() - began), leads=many)
    wait_for_word()
    requests.put(None)
    channel.close()


def portioned(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(things), PER_READ):
        yield things[start : start + PER_READ]


def renew(rpc: Any, kv: Any, requests: Any, answers: Any, ids: Sequence[int], keys: Sequence[bytes]) -> None:
    for lease_id in ids:
        requests.put(rpc.LeaseKeepAliveRequest(ID=lease_id))
    for _ in ids:
        next(answers)
    for some in portioned(keys):
        reads = [rpc.RequestOp(request_range=rpc.RangeRequest(key=key)) for key in some]
        kv.Txn(rpc.TxnRequest(success=reads, failure=[rpc.RequestOp(request_txn=rpc.TxnRequest())]))


# All of it


def counters(endpoint: str) -> dict[str, float]:
    """Messages that etcd has received, by method."""
    connection = http.client.HTTPConnection(endpoint, timeout=10)
    connection.request("GET", "/metrics")
    found = {}
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("grpc_server_msg_received_total"):
            labels, _, value = line.rpartition(" ")
            found[labels.partition('grpc_method="')[2].partition('"')[0]] = float(value)
    connection.close()
    return found


def measure(who: str, many: int) -> dict[str, Any]:
    with EtcdServer() as etcd:
        endpoint = etcd.endpoints[0]
        command = [sys.executable, __file__, "--hold", who, endpoint, str(many)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            before = counters(endpoint)
            process.stdin.write("\n")
            process.stdin.flush()
            facts |= json.loads(process.stdout.readline())
            after = counters(endpoint)
            process.stdin.write("\n")
            process.stdin.flush()
        facts["asked"] = {name: int(after[name] - before.get(name, 0)) for name in sorted(after)}
        facts["asked"] = {name: count for name, count in facts["asked"].items() if count}
        facts["version"] = etcd.version
    return {"who": who, "many": many, **facts}


def main(sizes: Sequence[int]) -> None:
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors; load at the start {os.getloadavg()[0]:.1f}")
    print(f"lease {LEASE} s, renewed every {RENEW} s; at rest for {REST} s")
    print(
        f"{'elections':>9} {'':12} {'all lead':>9} {'each':>8} {'threads':>8} {'at rest':>9}  asked of etcd meanwhile"
    )
    for many in sizes:
        for who in (BARE, OURS):
            facts = measure(who, many)
            assert facts["leads"] == many, facts
            asked = ", ".join(f"{count} {name}" for name, count in facts["asked"].items())
            print(
                f"{many:9} {who:12} {facts['elected']:7.2f} s {facts['bytes'] / 1024:5.1f} KB {facts['threads']:8} "
                f"{facts['busy'] * 100:7.2f} %  {asked}",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        _, _, who, where, size = sys.argv
        if who == OURS:
            anyio.run(hold, where, int(size))
        else:
            hold_bare(where, int(size))
    else:
        main([int(size) for size in sys.argv[1:]] or MANY)
