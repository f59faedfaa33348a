"""The protocol of workers: a worker reads commands as lines of JSON, and responds to each by a line with the command's id.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. So times of different workers can be
subtracted, and the way to the parent and back is in no measurement.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]
SECOND = 1_000_000_000

now = time.monotonic_ns
_speaking = threading.Lock()


@dataclass(frozen=True)
class Options:
    """The options of every worker, passed as JSON in its first argument.

    Attributes:
        endpoints: The server's endpoints.
        lease: Lease TTL in seconds: how long leadership outlives a crashed leader.
        renew: Seconds between two renewals.
        retry: The setting of etcdleader.
        margin: The setting of etcdleader.
        backend: The loop: asyncio, trio or uvloop.
        shared: One session for all elections, if the peer has sessions.
        reads: Whether the bare calls confirm a renewal by a read, as etcdleader does.
        client: The gRPC client of the row `rpc`.
    """

    endpoints: tuple[str, ...]
    lease: int = 600
    renew: float = 200.0
    retry: float = 5.0
    margin: float | None = None
    backend: str = "asyncio"
    shared: bool = False
    reads: bool = False
    client: str = ""


def options() -> Options:
    found = json.loads(sys.argv[1])
    found["endpoints"] = tuple(found["endpoints"])
    return Options(**found)


def say(number: int, answer: Answer) -> None:
    line = json.dumps({"id": number, **answer}) + "\n"
    with _speaking:
        sys.stdout.write(line)
        sys.stdout.flush()


def die(number: int, lease_ends: int) -> None:
    """Say how long the lease stands, and be killed at once."""
    say(number, {"died": now(), "lease_ends": lease_ends})
    os.kill(os.getpid(), signal.SIGKILL)


class BlockingPeer:
    """A peer whose methods block. Each `do_...` is a command; the rest is refused."""

    def close(self) -> None:
        """Before the process ends. What is held in etcd goes with the server."""


def serve(peer: BlockingPeer) -> None:
    """Run each command in a separate thread, until standard input is closed."""

    def run(number: int, operation: Callable[..., Answer | None], arguments: dict[str, Any]) -> None:
        try:
            answer = operation(**arguments) or {}
        except Exception as error:  # noqa: BLE001 - any error is sent to the parent
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(number, answer)

    try:
        for line in sys.stdin:
            command = json.loads(line)
            number, name = command.pop("id"), command.pop("op")
            operation = getattr(peer, f"do_{name}", None)
            if operation is None:
                say(number, {"error": f"unknown command {name}"})
            else:
                if name == "die":
                    command["number"] = number
                threading.Thread(target=run, args=(number, operation, command), daemon=True).start()
    finally:
        peer.close()
        os._exit(0)  # no thread is to complain that its stream is gone
