"""The messages that etcd received, by method, from its own counters."""

from __future__ import annotations

import http.client
from collections.abc import Sequence

Counters = dict[str, float]
STREAMS = frozenset({"Watch", "LeaseKeepAlive"})
VERSION = "Status"
"""By which each connection asks for the server's version, once a minute: a part of no operation."""


def received(endpoints: Sequence[str]) -> Counters:
    """Messages received since the start, by all members together, by method."""
    found: Counters = {}
    for endpoint in endpoints:
        connection = http.client.HTTPConnection(endpoint, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        for line in text.splitlines():
            if line.startswith("grpc_server_msg_received_total"):
                labels, _, value = line.rpartition(" ")
                method = labels.partition('grpc_method="')[2].partition('"')[0]
                found[method] = found.get(method, 0) + float(value)
    return found


def since(before: Counters, after: Counters) -> Counters:
    """Return the messages between two readings, without methods that received none."""
    gone = {method: count - before.get(method, 0) for method, count in after.items()}
    return {method: count for method, count in sorted(gone.items()) if count}


def calls(counters: Counters) -> float:
    """Return the number of unary calls, each a round trip."""
    return sum(count for method, count in counters.items() if method not in STREAMS and method != VERSION)


def messages(counters: Counters) -> float:
    """Return the number of messages on open streams: a watch created or cancelled, a keep-alive."""
    return sum(count for method, count in counters.items() if method in STREAMS)
