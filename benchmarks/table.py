"""The tables, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.registry import BARE, GO
from benchmarks.results import Bound, Row, verdicts
from benchmarks.stats import Summary

REFERENCES = {"x Go": GO.title, "x bare": BARE.title}


def references(row: Row) -> Mapping[str, str]:
    return REFERENCES if row.references is None else row.references


def head(row: Row) -> tuple[str, ...]:
    return ("", "n", "median", "p99", "IQR", "drift", *references(row), "requests")


def ratio(row: Row, title: str, reference: str) -> str:
    """Return a peer's median as a multiple of the reference's, or an empty string without both."""
    if title == reference or not row.has(title, reference) or row.peers[reference].median <= 0:
        return ""
    return f"{row.peers[title].median / row.peers[reference].median:.2f}"


def lines(row: Row) -> Iterator[tuple[str, ...]]:
    """A line of cells for each peer."""
    for title, measured in row.peers.items():
        if not measured.samples:
            continue
        of = Summary.of(measured.samples)
        alone = of.n == 1
        yield (
            title,
            str(of.n),
            number(of.median, row.unit),
            "" if alone else number(of.p99, row.unit),
            "" if alone else number(of.iqr, row.unit),
            "" if of.n < 4 else f"{of.drift:.2f}",
            *(ratio(row, title, reference) for reference in references(row).values()),
            measured.requests(),
        )


def number(value: float, unit: str) -> str:
    """With its unit, in about three digits."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4
    return f"{value:.{digits}f} {unit}"


def notes(row: Row) -> Iterator[str]:
    for title, measured in row.peers.items():
        if measured.note and measured.samples:
            yield f"{title}: {measured.note}"


def as_text(row: Row) -> str:
    """For a terminal."""
    cells = [head(row), *lines(row)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    out = [f"\n{row.title}", f"  ({'; '.join(filter(None, (row.versions, str(row.noise))))})"]
    for line in cells:
        first, *rest = line
        out.append(
            "  "
            + "  ".join(
                [first.ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
            )
        )
    out += [f"  {note}" for note in notes(row)]
    out += [f"  {shown(bound):10} {bound.text}: {bound.found}" for bound in row.bounds]
    return "\n".join(out)


def side_by_side(rows: Sequence[Row]) -> str:
    """Return a Markdown table with the medians of the rows that have a ``column``, or an empty text if none has one."""
    rows = [row for row in rows if row.column]
    titles = list(dict.fromkeys(title for row in rows for title in row.peers))
    out = ["| | " + " | ".join(row.column for row in rows) + " |", "| --- |" + " ---: |" * len(rows)]
    for title in titles:
        cells = []
        for row in rows:
            reference = next(iter(references(row).values()))
            times = ratio(row, title, reference)
            median = number(row.peers[title].median, row.unit) if row.has(title) else ""
            cells.append(f"{median} ({times} x)" if times else median)
        out.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(out) if rows else ""


def shown(bound: Bound) -> str:
    """A missed bound is to be seen at once."""
    return bound.word.upper() if bound.reached is False else bound.word


def bounds_as_text(rows: Sequence[Row]) -> str:
    """List all bounds again, the missed ones last, where they are noticed first."""
    found = verdicts(rows)
    judged = [(row, bound) for row in rows for bound in row.bounds]
    judged.sort(key=lambda pair: pair[1].reached is False)
    return "\n".join(
        ["\nBounds: " + ", ".join(f"{count} {word}" for word, count in found.items())]
        + [f"  {shown(bound):10} {row.title}: {bound.text}: {bound.found}" for row, bound in judged]
    )


def as_markdown(rows: Sequence[Row], facts: Sequence[str], left_out: Sequence[str]) -> str:
    """The whole report."""
    out = ["# Benchmarks", ""]
    out += [f"- {fact}" for fact in (*facts, *left_out)]
    found = verdicts(rows)
    out += ["", "## Bounds", "", "" + ", ".join(f"{count} {word}" for word, count in found.items()) + ".", ""]
    out += ["| row | bound | result | |", "| --- | --- | ---: | --- |"]
    out += [f"| {row.title} | {bound.text} | {bound.found} | {shown(bound)} |" for row in rows for bound in row.bounds]
    out += [
        "",
        "`requests` are round trips + messages on open streams (a watch created or cancelled, a keep-alive), as etcd",
        "counted them, for one operation. `drift` is the second half's median over the first half's.",
    ]
    for row in rows:
        out += ["", f"## {row.title}", "", f"{'; '.join(filter(None, (row.versions, str(row.noise))))}.", ""]
        out.append("| " + " | ".join(head(row)) + " |")
        out.append("| --- |" + " ---: |" * (len(head(row)) - 1))
        out += ["| " + " | ".join(line) + " |" for line in lines(row)]
        said = [*(f"{shown(bound)}: {bound.text}: {bound.found}" for bound in row.bounds), *notes(row)]
        out += [""] * bool(said) + [f"- {line}" for line in said]
    if together := side_by_side(rows):
        out += ["", "## Side by side: medians", "", together]
    return "\n".join(out) + "\n"
