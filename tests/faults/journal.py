"""The journals of a campaign's processes: one JSON object a line, each written by one ``os.write``.

All processes of one machine share CLOCK_BOOTTIME, so their timestamps compare without skew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ("Journal", "Tail", "folded", "now", "unfenced")


def now() -> float:
    """Return the seconds on the clock of all timestamps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file for appending, from any thread, that survives SIGKILL."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, kind: str, **facts: Any) -> None:
        """Write one line. It gets a timestamp unless it has one."""
        facts.setdefault("at", now())
        os.write(self._file, json.dumps({"kind": kind, **facts}).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Tail:
    """Reads the new lines of a journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new lines that are complete."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, _, _ = data.rpartition(b"\n")
        if not whole:
            return []
        self._offset += len(whole) + 1
        return [json.loads(line) for line in whole.split(b"\n")]


def unfenced(path: Path) -> tuple[int, int]:
    """Return the number of unfenced writes, and how many of these came after a write with a higher token."""
    written = late = 0
    highest: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        token, _, *election = line.split()
        name = "".join(election)
        written += 1
        late += int(token) < highest.get(name, 0)
        highest[name] = max(highest.get(name, 0), int(token))
    return written, late


def folded(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the lines without those "still" lines that a later one repeats.

    A "still" line applies to all beliefs that have begun before it and are not over. So only a new belief makes the next
    one different.
    """
    still: dict[str, Any] | None = None
    for line in lines:
        if line["kind"] == "still":
            still = line
            continue
        if line["kind"] == "belief" and still is not None:
            yield still
            still = None
        yield line
    if still is not None:
        yield still
