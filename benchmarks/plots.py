"""The curves, as SVG whose words stay words, and which come out the same from the same figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.registry import BARE, GO, OURS
from benchmarks.results import Row

SHOWN = {OURS.title: ("#1f6feb", "o"), GO.title: ("#2da44e", "s"), BARE.title: ("#8b949e", "^")}
# Each row whose name is such is a point, at its size.
CURVES = {
    "hand-over": (r"herd-\d+", "candidates waiting", "hand-over, ms (median)"),
    "memory": (r"many-\d+-memory", "elections led by one process", "memory per election, KB"),
    "at-rest": (r"many-\d+-cpu|pair-cpu", "elections led by one process", "processor at rest, %"),
}


def missing() -> str:
    return "" if find_spec("matplotlib") else "the Python package matplotlib is not installed (make bench installs it)"


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write what has at least two points; returns what was written."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "etcdleader", "font.size": 11})
    from matplotlib import pyplot as plt

    written = []
    for name, (pattern, across, up) in CURVES.items():
        points = sorted(
            (row for row in rows if row.points and re.fullmatch(pattern, row.name)), key=lambda row: row.points or 0
        )
        if len(points) < 2:
            continue
        figure, axes = plt.subplots(figsize=(7, 4.2))
        for title, (colour, mark) in SHOWN.items():
            curve = [(row.points, row.peers[title].median) for row in points if row.has(title)]
            if curve:
                axes.plot(*zip(*curve, strict=True), color=colour, marker=mark, label=title)
        axes.set_xscale("log")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
        path = folder / f"{name}.svg"
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        written.append(path)
    return written
