"""What the processes of a campaign write down: one JSON object a line, each with one ``os.write``.

All processes of one machine share CLOCK_BOOTTIME, so their stamps can be compared without any skew.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ("Journal", "Tail", "now")


def now() -> float:
    """Seconds on the clock that all stamps are taken from."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file to append to, from any thread, that survives SIGKILL."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, kind: str, **facts: Any) -> None:
        """Write one line; it is stamped unless it brings its stamp along."""
        facts.setdefault("at", now())
        os.write(self._file, json.dumps({"kind": kind, **facts}).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Tail:
    """Reads what a journal has got since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """The new lines, complete ones only."""
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
