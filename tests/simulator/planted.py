"""Hunt the planted bugs with the simulator, and print which seed and which rule found each.

    python -m tests.simulator.planted --jobs 2
    python -m tests.simulator.planted --jobs 2 --seeds 1000 --all --keep

The first tries the known seeds, and takes minutes. The second hunts every bug of ``tests/planted``, and takes hours.

Each bug is planted in a copy of the package. ``planted.json`` keeps the seed that found it. A bug whose seed finds it no
longer is hunted again from the first seed. The exit status is 1 if a bug that the file lists is not found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.planted.bug import PACKAGE, Bug
from tests.planted.change import plant
from tests.planted.groups import BUGS

__all__ = ("KNOWN", "Found", "find", "main")

KNOWN = Path(__file__).with_name("planted.json")
_ROOT = Path(__file__).parents[2]
_BROKEN = re.compile(r"\b(AttributeError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError)\b")
"""Errors of a change that no longer fits. They would be found by any seed."""
_SECONDS_A_SEED = 60


@dataclass(frozen=True)
class Found:
    """The result of the hunt for one bug: a seed and a rule, or nothing."""

    bug: str
    seed: int | None
    tried: int
    rule: str
    text: str
    seconds: float

    def line(self) -> str:
        """Return one line of the table."""
        seed = "not found" if self.seed is None else str(self.seed)
        return f"{self.bug[:72]:72} {seed:>9} {self.tried:>6} {self.rule:6} {self.seconds:6.1f}"


def find(bug: Bug, seeds: int, known: int | None) -> Found:
    """Hunt one bug: with its known seed, then with the first ones."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etcdleader-planted-") as folder:
        plant(PACKAGE, Path(folder), bug)
        tried = 0
        for first, count in (*(((known, 1),) if known is not None else ()), (0, seeds)):
            found = _hunt(folder, first, count)
            if found is not None:
                tried += int(found["tried"])
                return Found(bug.name, found["seed"], tried, found["rule"], found["text"], time.monotonic() - began)
            tried += count
    return Found(bug.name, None, tried, "", "", time.monotonic() - began)


def _hunt(folder: str, first: int, count: int) -> dict[str, Any] | None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, str(_ROOT)))}
    command = [sys.executable, "-m", "tests.simulator.hunt", str(first), str(count)]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True,
            timeout=_SECONDS_A_SEED * (count + 2),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"seed": first, "tried": count, "rule": "hang", "text": "a run did not end"}
    found: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
    if found is not None and (wrong := _BROKEN.search(found["text"])) is not None:
        raise AssertionError(f"no bug but a broken program ({wrong}): {found['text']}")
    return found


def _hunt_all(bugs: Sequence[Bug], known: Mapping[str, Any], seeds: int, jobs: int) -> Iterator[Found]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda bug: find(bug, seeds, known.get(bug.name, {}).get("seed")), bugs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.planted", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds to try for a bug")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--all", action="store_true", help="also the bugs that the simulator has not found before")
    parser.add_argument("--bug", help="only bugs whose names contain this")
    parser.add_argument("--keep", action="store_true", help="write planted.json")
    options = parser.parse_args(arguments)
    known: dict[str, Any] = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    bugs = [bug for bug in BUGS if (options.all or bug.name in known) and (options.bug or "") in bug.name]
    print(f"{'bug':72} {'seed':>9} {'tried':>6} rule   seconds", flush=True)
    lost = found_bugs = 0
    for found in _hunt_all(bugs, known, options.seeds, options.jobs):
        print(found.line(), flush=True)
        if found.seed is not None:
            found_bugs += 1
            known[found.bug] = {"seed": found.seed, "rule": found.rule}
        elif found.bug in known:
            lost += 1
            del known[found.bug]
        if options.keep:
            KNOWN.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{found_bugs} of {len(bugs)} bugs found; {lost} are not found any more")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
