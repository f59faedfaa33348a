"""The results of a row, and the verdicts on them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.asked import Counters, calls, messages
from benchmarks.noise import Noise
from benchmarks.stats import Summary


@dataclass
class Measured:
    """Of one peer in one row.

    Attributes:
        samples: In the order in which they were taken, in the row's unit.
        asked: What etcd received for them, by method, all together.
        operations: For how many operations that was.
        note: What has to be known to read the figure.
    """

    samples: list[float] = field(default_factory=list)
    asked: Counters = field(default_factory=dict)
    operations: int = 0
    note: str = ""

    def count(self, counters: Counters, operations: int = 1) -> None:
        self.operations += operations
        for method, count in counters.items():
            self.asked[method] = self.asked.get(method, 0) + count

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def per_operation(self) -> Counters:
        return {method: count / self.operations for method, count in self.asked.items()} if self.operations else {}

    def requests(self) -> str:
        """Round trips and messages on streams, for one operation; empty when they were not counted."""
        if not self.operations:
            return ""
        each = self.per_operation()
        return f"{calls(each):.2f} + {messages(each):.2f}"


@dataclass(frozen=True)
class Bound:
    """Something to reach.

    Attributes:
        text: What is to be reached.
        found: What was found.
        reached: Whether it was; None when the reference is missing.
    """

    text: str
    found: str
    reached: bool | None

    @property
    def word(self) -> str:
        return {True: "reached", False: "missed", None: "not judged"}[self.reached]


@dataclass
class Row:
    """One table of one kind of figure.

    Attributes:
        name: Its name on the command line, and in the JSON.
        title: What is measured.
        unit: The unit of all its samples.
        peers: The results by the peer's title, in the order of the table.
        noise: The machine's other load.
        bounds: The required results.
        points: For a plot: the size at which this row was measured.
        references: The peers that all are compared with, by the head of the column. The default is the Go client and the
            bare calls.
        column: Its head in the table that shows several rows side by side. Empty: it is not in that table.
        versions: The versions of the server and of the Go client.
    """

    name: str
    title: str
    unit: str
    peers: dict[str, Measured]
    noise: Noise
    bounds: list[Bound] = field(default_factory=list)
    points: int | None = None
    references: Mapping[str, str] | None = None
    column: str = ""
    versions: str = ""

    def has(self, *titles: str) -> bool:
        return all(title in self.peers and self.peers[title].samples for title in titles)

    def at_most(self, text: str, title: str, limit: float) -> None:
        """The median is at most this."""
        if self.has(title):
            found = self.peers[title].median
            self.bounds.append(Bound(f"<= {limit:g} {self.unit} {text}".strip(), f"{found:.3g}", found <= limit))

    def at_most_times(self, factor: float, title: str, reference: str) -> None:
        """The median is at most so many times that of the reference."""
        text = f"<= {factor:g} x {reference}"
        if not self.has(title):
            return
        if not self.has(reference):
            self.bounds.append(Bound(text, f"{reference} was not measured", None))
            return
        found = self.peers[title].median / self.peers[reference].median
        self.bounds.append(Bound(text, f"{found:.2f} x", found <= factor))

    def asks_at_most(self, text: str, found: float | None, limit: float) -> None:
        """Of requests, which are counted and not measured: a hundredth is for those of others."""
        if found is not None:
            self.bounds.append(Bound(text, f"{found:.2f}", found <= limit + 0.01))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "size": self.points,
            "noise": vars(self.noise),
            "peers": {
                title: {
                    **vars(Summary.of(measured.samples)),
                    "requests": measured.per_operation(),
                    "note": measured.note,
                    "samples": [float(f"{sample:.6g}") for sample in measured.samples],
                }
                for title, measured in self.peers.items()
                if measured.samples
            },
            "bounds": [{"text": b.text, "found": b.found, "verdict": b.word} for b in self.bounds],
        }


def verdicts(rows: Sequence[Row]) -> dict[str, int]:
    """Return a sentence with the number of bounds that were reached, missed and not judged."""
    words = [bound.word for row in rows for bound in row.bounds]
    return {word: words.count(word) for word in ("reached", "missed", "not judged")}
