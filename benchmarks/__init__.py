"""The cost of elections: etcdleader beside other libraries, and beside the bare calls that every election needs.

Usage::

    make bench                                                  # all of it, about a quarter of an hour
    python -m benchmarks --quick                                # each row with few rounds, as a check that it works
    python -m benchmarks --rows acquire,handover --rounds 20 --peers ours,go,bare

It starts its own etcd, prints a table, and writes build/bench/results.json, table.md and *.svg. Each bound is shown with
its result. Only the measurements of this run decide whether it was reached.

Method
    Each peer is a process that receives commands (`peers/protocol.py`) and measures the times itself. It uses the clock
    that all processes of a machine share. So a hand-over lasts from the call in one process to the event in the other one.
    The parent's latency is in no measurement. In each round, every peer has its turn on the same etcd, in
    an order that is drawn again each time. Other load on the machine affects all alike. The counters of etcd give the
    requests: round trips, and beside them the messages on open streams (a watch created or cancelled, a keep-alive).

    There are two references. One is Go's client (`concurrency.Election`), which is widely known. The other is the bare
    calls (`peers/bare.py`): the least that etcd and Python's gRPC require, without decisions and without detection of
    losses. No Python client can be faster. An election that survives network failures must cost a little more.

Limits
    All processes are on one machine. There is no network, no TLS, no login, and no disk, since the test etcd does not
    sync. A commit is cheap here, so the client's share is larger than elsewhere. A single etcd 3.5.1 responds before it
    writes its log. Three members do not, but they share these processors. A peer's locks (etcd3, aetcd) do less than an
    election, and are not renewed. The price of idleness is included: a request after 200 ms of silence costs a
    millisecond more than one of many, because processors sleep.

Accuracy
    Each row shows the load before and after it, and the time that the hypervisor took. It also shows how busy the
    processors were, mostly with the row itself. Each figure shows its spread (IQR, the middle half) and its drift (the second half's median
    over the first half's). On an idle machine of two processors, medians repeat within a tenth, and p99 within a factor
    of two. Under load, only the ratios of peers that are measured in turns are meaningful.
"""

from __future__ import annotations
