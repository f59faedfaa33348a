"""The resources of a process, as Linux reports them."""

from __future__ import annotations

import os
import resource
from pathlib import Path

INNER = ("event_engine", "grpc_", "lifeguard", "resolver", "timer_manager")
"""The prefixes of thread names in grpcio's core."""
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu(pid: int) -> int:
    """Nanoseconds that its threads have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        except FileNotFoundError:
            continue  # a thread that has just ended
    return total


def cpu_of_children() -> float:
    """Seconds that all children that have ended have run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def threads(pid: int) -> tuple[int, int]:
    """All that it has, and those of them that are neither its first one nor the inner ones of gRPC."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            names.append((task / "comm").read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
    return len(names), sum(not name.startswith(INNER) for name in names) - 1


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE
