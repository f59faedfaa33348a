"""Statistics of samples."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

RESAMPLED = 1000


@dataclass(frozen=True)
class Summary:
    """Samples in short.

    Attributes:
        n: How many.
        median: Half are below.
        p99: Nearest rank; with fewer than 100 it is the largest.
        iqr: From the first quartile to the third: the spread of the middle half.
        drift: The second half's median over the first half's: 1.00 when nothing changed while it was measured.
    """

    n: int
    median: float
    p99: float
    iqr: float
    drift: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Of at least one sample, in the order in which they were taken."""
        ordered = sorted(samples)
        n = len(ordered)
        quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if n > 1 else ordered * 3
        half = n // 2
        before = statistics.median(samples[:half]) if half else ordered[0]
        after = statistics.median(samples[n - half :]) if half else ordered[0]
        return cls(
            n=n,
            median=statistics.median(ordered),
            p99=ordered[math.ceil(0.99 * n) - 1],
            iqr=quartiles[2] - quartiles[0],
            drift=after / before if before else math.nan,
        )


def difference(ours: Sequence[float], theirs: Sequence[float], *, seed: int = 1) -> tuple[float, float, float]:
    """The difference of two medians, with the bounds of its 95 % interval (bootstrapped, from a fixed seed)."""
    chance = random.Random(seed)
    drawn = sorted(
        statistics.median(chance.choices(ours, k=len(ours))) - statistics.median(chance.choices(theirs, k=len(theirs)))
        for _ in range(RESAMPLED)
    )
    low, high = drawn[int(0.025 * RESAMPLED)], drawn[int(0.975 * RESAMPLED) - 1]
    return statistics.median(ours) - statistics.median(theirs), low, high
