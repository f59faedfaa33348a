"""What elections cost: etcdleader beside its rivals, and beside the calls that nobody can do without.

    make bench                                                  # all of it, about a quarter of an hour
    python -m benchmarks --quick                                # each row with few rounds: to see that it works
    python -m benchmarks --rows acquire,handover --rounds 20 --peers ours,go,bare

It starts its own etcd, prints a table, and writes build/bench/results.json, table.md and *.svg. Beside each bound stands
whether it was reached; it is judged by what was measured in this very run, and nothing else.

How it is measured
    Each peer is a process that is told what to do (`peers/protocol.py`). The times are taken in it, on the clock that
    all processes of a machine share, so a hand-over is the time from the call in one process to the word in the
    other one, and the parent's own latency is in no measurement. In each round every peer has its turn, in an order
    that is drawn anew, on the same etcd: what else the machine does falls on all alike. Requests are counted by etcd:
    round trips, and beside them the messages on open streams (a watch created or cancelled, a keep-alive).

    Two references: Go's client (`concurrency.Election`), which everybody knows, and the bare calls (`peers/bare.py`),
    the least that etcd and Python's gRPC ask for, with nothing decided and nothing noticed. Nothing in Python can be
    faster than those, and an election that is to survive its network must cost a little more.

What it cannot show
    All is on one machine: there is no network, no TLS, no login, and no disk, since the etcd of tests does not sync. A
    commit is cheap here, so the client's own share is larger than it would be anywhere else. A single etcd 3.5.1
    answers before its log is written at all; three members do not, but share these processors. A peer's locks (etcd3,
    aetcd) do less than an election, and are renewed by nobody. The idle price is in: a request after 200 ms of silence
    costs a millisecond more than one of many, because processors sleep.

How far to trust it
    Beside each row stand the load before and after, how busy the processors were (mostly with the row itself) and what
    the hypervisor stole; beside each figure its spread (IQR, the middle half) and its drift (the second half's median
    over the first half's). On an idle machine of two processors medians come back within a tenth and p99 within a
    factor of two; under load neither does, and ratios of peers measured in turns are all that is left.
"""

from __future__ import annotations
