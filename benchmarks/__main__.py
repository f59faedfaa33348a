"""The command: measure, print, and write down. How it measures stands in the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks import plots
from benchmarks.lab import Lab
from benchmarks.registry import BUILD, OURS, PEERS, Peer, go_client_version
from benchmarks.results import Row, verdicts
from benchmarks.rows import acquire, extend, hand_over, herd, kill, many, rpc, starts
from benchmarks.table import as_markdown, as_text, bounds_as_text, side_by_side
from benchmarks.workers import WorkerError
from tests.versions.choice import choose

Measure = Callable[[Lab], Iterable[Row]]


def one(measure: Callable[[Lab], Row]) -> Measure:
    return lambda lab: [measure(lab)]


def herds(lab: Lab) -> Iterable[Row]:
    return (herd.measure(lab, size) for size in (herd.QUICK_SIZES if lab.quick else herd.SIZES))


ROWS: dict[str, Measure] = {
    "acquire-1": one(partial(acquire.measure, members=1)),
    "acquire-3": one(partial(acquire.measure, members=3)),
    "cold": one(acquire.cold),
    **{variant.name: one(partial(hand_over.measure, variant=variant)) for variant in hand_over.VARIANTS},
    "herd": herds,
    "kill": kill.measure,
    "extend": one(extend.measure),
    "import": starts.imports,
    "spawn": starts.spawn,
    "pair": many.pair,
    "many": many.many,
    "rpc": rpc.measure,
}
LIBRARIES = ("anyio", "grpcio", "h2", "hpack", "hyperframe")
"""The packages whose versions the report names."""
MODULES = {"grpcio": "grpc"}
# What `many` measures in passing.
LEFT_OUT_OF_ALL = {"pair"}


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def chosen_rows(text: str) -> list[str]:
    """By their names, or by what several names begin with: `acquire` is `acquire-1` and `acquire-3`."""
    found = []
    for word in words(text):
        of_word = [name for name in ROWS if name == word or name.startswith(f"{word}-")]
        if not of_word:
            raise argparse.ArgumentTypeError(f"no such row: {word!r}; there are {', '.join(ROWS)}")
        found += of_word
    return found


def chosen_peers(text: str) -> list[str]:
    known = [peer.slug for peer in PEERS]
    for word in words(text):
        if word not in known:
            raise argparse.ArgumentTypeError(f"no such peer: {word!r}; there are {', '.join(known)}")
    return words(text)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure etcdleader beside other libraries."
    )
    parser.add_argument(
        "--rows",
        type=chosen_rows,
        default=[name for name in ROWS if name not in LEFT_OUT_OF_ALL],
        help=f"of {', '.join(ROWS)}, or what these begin with; pair is a part of many",
    )
    parser.add_argument(
        "--peers",
        type=chosen_peers,
        default=[peer.slug for peer in PEERS],
        help=f"of {', '.join(peer.slug for peer in PEERS)}",
    )
    parser.add_argument("--rounds", type=int, help="the number of rounds of each timed row, instead of its default")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes, as a check that it works")
    parser.add_argument("--into", type=Path, default=BUILD, help="the folder of the results (build/bench)")
    return parser.parse_args(given)


def present(slugs: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """The peers that are here, and a line for each that is not."""
    peers, left_out = [], []
    for peer in PEERS:
        if peer.slug in slugs:
            missing = peer.missing()
            if missing:
                left_out.append(f"left out: {peer.title}: {missing}")
            else:
                peers.append(peer)
    return peers, left_out


def main(given: Sequence[str] | None = None) -> None:
    asked_for = arguments(given)
    # As Ctrl-C does: every server and worker ends on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(choose(), flush=True)
    peers, left_out = present(asked_for.peers)
    lab = Lab(peers, asked_for.rounds, quick=asked_for.quick)
    print("\n".join(left_out), flush=True)
    rows: list[Row] = []
    try:
        for name in asked_for.rows:
            of_name = []
            for row in measured(name, lab, left_out):
                row.versions = f"etcd {lab.etcd_version}, Go client {go_client_version()}"
                print(as_text(row), flush=True)
                of_name.append(row)
                rows.append(row)
            if together := side_by_side(of_name):
                print(f"\n{together}", flush=True)
    finally:
        if rows:
            write(rows, lab, left_out, asked_for)


def measured(name: str, lab: Lab, left_out: list[str]) -> Iterator[Row]:
    """The rows of a name. A peer that fails is left out, and the rest is done again; without us there is no row."""
    everyone = lab.peers
    try:
        for _ in everyone:
            done = 0
            try:
                for row in ROWS[name](lab):
                    done += 1
                    yield row
            except WorkerError as error:
                left_out.append(f"left out of {name}: {error.title}: {error}")
                print(left_out[-1], flush=True)
                if error.title == OURS.title or done:
                    return
                lab.peers = [peer for peer in lab.peers if peer.title != error.title]
            else:
                return
    finally:
        lab.peers = everyone


def write(rows: Sequence[Row], lab: Lab, left_out: Sequence[str], asked_for: argparse.Namespace) -> None:
    machine = f"{os.cpu_count()} processors, Linux {platform.release()}"
    facts = [
        f"Python {platform.python_version()}, etcd {lab.etcd_version}, Go client {go_client_version()}, {machine}",
        ", ".join(f"{name} {version(name)}" for name in LIBRARIES if find_spec(MODULES.get(name, name))),
        "few rounds, small sizes: no figures to quote" if lab.quick else "a full run of the rows below",
    ]
    folder: Path = asked_for.into
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "facts": facts,
        "left_out": list(left_out),
        "verdicts": verdicts(rows),
        "rows": [row.as_json() for row in rows],
    }
    written = [folder / "results.json", folder / "table.md"]
    written[0].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    written[1].write_text(as_markdown(rows, facts, left_out), encoding="utf-8")
    if plots.missing():
        print(f"no plots: {plots.missing()}")
    else:
        written += plots.draw(rows, folder)
    print(bounds_as_text(rows))
    print("written: " + ", ".join(os.path.relpath(path) for path in written))


if __name__ == "__main__":
    main()
