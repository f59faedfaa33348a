"""The cost of a start: imports, settings, and a whole process from its spawn to its election.

Each measurement is a new process, in turns. Comparisons between processes subtract the time of an empty one, which is
Python's own start.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import noise, processes
from benchmarks.lab import Lab, new_election
from benchmarks.registry import BARE, OURS, SPAWN, Peer
from benchmarks.results import Measured, Row
from benchmarks.rows.acquire import MILLI
from benchmarks.workers import ROOT, environment
from etcdleader.testing._etcd_binary import find_etcd, find_etcdctl

NOTHING = "python -c pass"
IMPORT = "import etcdleader"
FACTORY = "import etcdleader + factory"
IMPORTS = "import anyio + dynaconf"
SETTINGS = "import anyio + dynaconf, settings read"
PROGRAMS = {
    NOTHING: "pass",
    IMPORT: "import etcdleader",
    FACTORY: "import etcdleader; etcdleader.must_new_leader_manager_from_config('jobs')",
    IMPORTS: "import anyio, dynaconf",
    SETTINGS: "import anyio, dynaconf; dynaconf.Dynaconf(settings_files=['settings.toml']).get('leader')",
}
FILE = """
[leader]
enabled = true

[etcd]
endpoints = ["127.0.0.1:2379"]
"""


def imports(lab: Lab) -> list[Row]:
    took: dict[str, list[float]] = {what: [] for what in PROGRAMS}
    cpu: dict[str, list[float]] = {what: [] for what in PROGRAMS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, noise.watched() as noises:
        Path(folder, "settings.toml").write_text(FILE, encoding="utf-8")
        for number in range(lab.rounds(25, 3) + 1):
            for what in lab.chance.sample(list(PROGRAMS), len(PROGRAMS)):
                used = processes.cpu_of_children()
                began = time.monotonic_ns()
                subprocess.run([sys.executable, "-c", PROGRAMS[what]], cwd=folder, env=environment(), check=True)
                if number:  # the first round writes what Python caches
                    took[what].append((time.monotonic_ns() - began) * MILLI)
                    cpu[what].append((processes.cpu_of_children() - used) * 1000)
    nothing = statistics.median(took.pop(NOTHING))
    found = {what: Measured([one - nothing for one in samples]) for what, samples in took.items()}
    for what, measured in found.items():
        spent = statistics.median(cpu[what]) - statistics.median(cpu[NOTHING])
        measured.note = f"{spent:.0f} ms of a processor"
    row = Row("import", f"Import, without the {nothing:.0f} ms of `{NOTHING}`", "ms", found, noises)
    row.at_most("for the import alone", IMPORT, 40)
    row.at_most_times(1.15, FACTORY, IMPORTS)
    row.at_most_times(1.15, FACTORY, SETTINGS)
    return [row]


def spawn(lab: Lab) -> list[Row]:
    peers = lab.who(SPAWN)
    found = {peer.title: Measured() for peer in peers}
    with lab.bench() as bench, noise.watched() as noises:
        for number in range(lab.rounds(20, 2) + 1):
            for peer in lab.shuffled(peers):
                took = spawned(command(peer, bench.etcd.endpoints)) * MILLI
                if number:
                    found[peer.title].samples.append(took)
    row = Row("spawn", "From the spawn of a process to its election", "ms", found, noises)
    row.at_most_times(1.2, OURS.title, BARE.title)
    return [row]


def command(peer: Peer, endpoints: Sequence[str]) -> list[str]:
    """A program that is elected, prints the time (etcdctl: its key), and ends."""
    if peer in {OURS, BARE}:
        program = ROOT / "benchmarks" / "peers" / f"once_{peer.slug}.py"
        return [sys.executable, str(program), endpoints[0], new_election()]
    if peer.slug == "etcdctl":
        etcdctl = find_etcdctl(find_etcd())
        return [str(etcdctl), "--endpoints", ",".join(endpoints), "elect", new_election(), "bench"]
    options = {"endpoints": list(endpoints), "lease": 60, "once": new_election()}
    return [*peer.command, json.dumps(options)]


def spawned(program: Sequence[str]) -> int:
    """Nanoseconds until it is elected. It is ended then, if it does not end by itself."""
    began = time.monotonic_ns()
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment(), start_new_session=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            read = time.monotonic_ns()
            assert line, f"{program[0]} was not elected"
            # etcdctl does not report the time, so it is that of the reader.
            return (json.loads(line)["elected"] if line.startswith(b"{") else read) - began
        finally:
            process.terminate()
