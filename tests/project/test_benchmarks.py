"""The benchmarks work: what they say about samples is right, and the smallest run ends with all that it promises.

Nothing that is timed is asserted: this machine may be doing anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import asked, plots
from benchmarks.lab import Lab
from benchmarks.noise import Noise, watched
from benchmarks.registry import BARE, CODEC, GO, OURS, RPC_PEERS, go_client_version
from benchmarks.results import Measured, Row, verdicts
from benchmarks.stats import Summary, difference
from benchmarks.table import as_markdown, as_text, number, side_by_side
from benchmarks.workers import WorkerError
from tests.helpers.paths import ROOT
from tests.versions.listed import NEWEST


def row(ours: float, go: float | None = 2.0) -> Row:
    peers = {OURS.title: Measured([ours] * 4), BARE.title: Measured([1.0, 1.0, 3.0, 3.0])}
    if go is not None:
        peers[GO.title] = Measured([go] * 4)
    return Row("test", "A row", "ms", peers, Noise())


def test_a_summary_is_that_of_the_samples() -> None:
    """Nearest rank for p99; the drift compares the halves in the order of measuring."""
    of = Summary.of([float(sample) for sample in range(1, 101)])
    assert (of.n, of.median, of.p99, of.iqr) == (100, 50.5, 99.0, 49.5)
    assert of.drift == pytest.approx(75.5 / 25.5)


def test_one_sample_is_its_own_summary() -> None:
    """Single measurements, such as memory, are in the same table."""
    assert Summary.of([3.0]) == Summary(n=1, median=3.0, p99=3.0, iqr=0.0, drift=1.0)


def test_the_interval_of_a_difference_holds_it_and_is_the_same_each_time() -> None:
    """The same figures give the same report."""
    ours, theirs = [float(n % 10) for n in range(50)], [float(n % 10) + 5 for n in range(50)]
    middle, low, high = difference(ours, theirs)
    assert low <= middle <= high
    assert middle == pytest.approx(-5.0)
    assert difference(ours, theirs) == (middle, low, high)


@pytest.mark.parametrize(("ours", "word"), [(2.0, "reached"), (2.3, "reached"), (2.31, "missed")])
def test_a_bound_is_judged_by_what_was_measured_beside_it(ours: float, word: str) -> None:
    """No figure of another day decides."""
    found = row(ours)
    found.at_most_times(1.15, OURS.title, GO.title)
    assert [bound.word for bound in found.bounds] == [word]


def test_without_its_reference_a_bound_is_not_judged() -> None:
    """It is neither reached nor missed, and the report shows it."""
    found = row(1.0, go=None)
    found.at_most_times(1.15, OURS.title, GO.title)
    assert verdicts([found]) == {"reached": 0, "missed": 0, "not judged": 1}
    assert "was not measured" in as_text(found)


def test_the_tables_show_ratios_requests_noise_and_what_was_missed() -> None:
    """A missed bound is not hidden."""
    found = row(4.0)
    found.peers[OURS.title].count({"Txn": 4, "LeaseGrant": 4, "Watch": 2}, 4)
    found.at_most_times(1.0, OURS.title, GO.title)
    text = as_text(found)
    assert "MISSED" in text
    assert "2.00 + 0.50" in text
    markdown = as_markdown([found], ["a fact"], ["left out: somebody"])
    assert "| etcdleader | 4 | 4.00 ms | 4.00 ms | 0.00 ms | 1.00 | 2.00 | 2.00 | 2.00 + 0.50 |" in markdown
    assert "1 missed" in markdown
    assert "left out: somebody" in markdown
    assert str(found.noise) in markdown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00 s"), (0.0123, "0.0123 s"), (1.234, "1.23 s"), (56.78, "56.8 s"), (1234.5, "1234 s")],
)
def test_figures_have_about_three_digits(value: float, shown: str) -> None:
    """No more than the measurement shows."""
    assert number(value, "s") == shown


def test_requests_are_distinguished_from_messages_on_streams() -> None:
    """A round trip is waited for; a message is not."""
    between = asked.since({"Txn": 1.0, "Put": 2.0}, {"Txn": 3.0, "Put": 2.0, "Watch": 4.0})
    assert between == {"Txn": 2.0, "Watch": 4.0}
    assert (asked.calls(between), asked.messages(between)) == (2.0, 4.0)


def test_the_noise_of_a_block_is_known_when_it_is_left() -> None:
    """Also of a row that failed."""
    with pytest.raises(ZeroDivisionError), watched() as noise:
        _ = 1 / 0
    assert noise.seconds > 0
    assert 0 <= noise.busy <= 100


def test_plots_come_out_the_same_from_the_same_figures(tmp_path: Path) -> None:
    """So a picture in the repository changes when a figure did."""
    if plots.missing():
        pytest.skip(plots.missing())
    rows = []
    for size in (1, 10):
        point = row(2.0)
        point.name, point.points = f"herd-{size}", size
        rows.append(point)
    first = [path.read_bytes() for path in plots.draw(rows, tmp_path)]
    assert len(first) == 1
    assert first == [path.read_bytes() for path in plots.draw(rows, tmp_path)]


def test_a_group_of_rows_has_the_name_that_its_rows_begin_with() -> None:
    """`--rows acquire` is one member and three."""
    assert command.chosen_rows("acquire,extend") == ["acquire-1", "acquire-3", "extend"]
    with pytest.raises(argparse.ArgumentTypeError, match="no such row: 'acq'"):
        command.chosen_rows("acq")


def test_a_peer_that_fails_is_left_out_of_the_row_and_only_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that an update broke must not cost the run."""

    def measure(lab: Lab) -> Iterator[Row]:
        if BARE in lab.peers:
            raise WorkerError(BARE.title, "it is broken")
        yield row(1.0)

    monkeypatch.setitem(command.ROWS, "broken", measure)
    lab, left_out = Lab([OURS, BARE]), list[str]()
    assert len(list(command.measured("broken", lab, left_out))) == 1
    assert left_out == ["left out of broken: bare calls: it is broken"]
    assert lab.peers == [OURS, BARE]


def test_rows_of_one_kind_are_side_by_side_with_their_ratios() -> None:
    """A peer that is not in one of them has an empty cell there."""
    first, second = row(4.0), row(1.0, go=None)
    for found, column in ((first, "CPU"), (second, "latency")):
        found.references, found.column = {"x ours": OURS.title}, column
    assert "x ours" in as_text(first)
    assert "x Go" not in as_text(first)
    assert side_by_side([first, row(2.0), second]).splitlines() == [
        "| | CPU | latency |",
        "| --- | ---: | ---: |",
        "| etcdleader | 4.00 ms | 1.00 ms |",
        "| bare calls | 2.00 ms (0.50 x) | 2.00 ms (2.00 x) |",
        "| Go concurrency.Election | 2.00 ms (0.50 x) |  |",
    ]
    assert side_by_side([row(1.0)]) == ""


def run_benchmarks(into: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the smallest sizes; return how that ended, and the peers of each row."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *arguments, "--into", str(into)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=150,
    )
    results = json.loads((into / "results.json").read_text())
    return ran, {found["name"]: found["peers"] for found in results["rows"]}


@pytest.mark.etcd
def test_all_grpc_clients_send_the_same_requests_and_get_all_events(tmp_path: Path) -> None:
    """Else it would be no comparison."""
    ran, rows = run_benchmarks(tmp_path, "--rows", "rpc")
    assert "left out of" not in ran.stdout
    assert "| etcdleader._grpc | " in ran.stdout
    clients = {peer.title for peer in RPC_PEERS}
    for name in ("rpc-call-cpu", "rpc-burst-cpu"):
        assert set(rows[name]) == clients
        assert [of["requests"] for of in rows[name].values()] == [{"Range": 1.0}] * len(clients)
    assert set(rows["rpc-event"]) == clients
    assert set(rows["rpc-codec"]) == {peer.title for peer in RPC_PEERS if CODEC in peer.does}


@pytest.mark.etcd
def test_the_smallest_run_measures_prints_and_writes(tmp_path: Path) -> None:
    """With the library and the bare calls, which are everywhere."""
    rows = ("--rows", "acquire-1,handover-1,extend")
    ran, measured = run_benchmarks(tmp_path, "--rounds", "1", "--peers", "ours,bare", *rows)
    assert "Traceback" not in ran.stderr
    assert set(measured) == {"acquire-1", "handover-1", "extend"}
    for name, peers in measured.items():
        assert set(peers) == {OURS.title, BARE.title}, name
    assert measured["acquire-1"][BARE.title]["requests"] == {"LeaseGrant": 1.0, "Txn": 1.0}
    assert "not judged" in (tmp_path / "table.md").read_text()


def test_gos_client_is_as_new_as_the_server() -> None:
    """An old client is not what people compare with."""
    assert go_client_version() == NEWEST
