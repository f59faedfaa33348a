"""The machine's other load while a row was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Noise:
    """The load during one row. Most of the busy time is the benchmark's own, so compare it with that of other runs.

    Attributes:
        load_before: The load average of a minute, when the row began.
        load_after: The load average of a minute, when the row ended.
        busy: Percent of all processors' time that was not idle.
        steal: Percent that the hypervisor gave to other machines.
        seconds: The duration of the row.
    """

    load_before: float = 0.0
    load_after: float = 0.0
    busy: float = 0.0
    steal: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"load {self.load_before:.1f} before, {self.load_after:.1f} after; {self.busy:.0f} % busy, "
            f"{self.steal:.1f} % steal, in {self.seconds:.0f} s"
        )


def ticks() -> list[int]:
    """Of all processors: user, nice, system, idle, iowait, irq, softirq, steal."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    return [int(word) for word in first.split()[1:9]]


@contextmanager
def watched() -> Iterator[Noise]:
    """The noise of a block; it is complete when the block is left."""
    noise, before, began = Noise(load_before=os.getloadavg()[0]), ticks(), time.monotonic()
    try:
        yield noise
    finally:
        spent = [now - then for now, then in zip(ticks(), before, strict=True)]
        whole = max(1, sum(spent))
        noise.load_after = os.getloadavg()[0]
        noise.busy = 100 * (whole - spent[3] - spent[4]) / whole
        noise.steal = 100 * spent[7] / whole
        noise.seconds = time.monotonic() - began
