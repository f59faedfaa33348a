"""The fault suite's command line: ``python -m tests.faults.run``.

Exit status 0: every invariant held. 1: an invariant did not hold, or a campaign could not be run. 2: the report names
another problem. A whole run takes ten minutes or more. It also ends with 2 after fewer than a hundred faults, or fewer than three
of one kind."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NoReturn

from etcdleader.testing import EtcdServerError
from etcdleader.testing._etcd_binary import find_etcd, version_of
from tests.faults.network import why_no_namespaces
from tests.faults.planted import own_package
from tests.faults.report import Outcome, write_report
from tests.faults.rows_five import why_not_on
from tests.faults.rows_versions import ROUTE, versions_missing
from tests.faults.schedule import IN_WHOLE_RUNS, PLANS, UPGRADES, run_campaign
from tests.versions.choice import choose

__all__ = ("main",)

_WHOLE_RUN = 600.0
_ENOUGH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite, and return the exit status."""
    options = _parse(arguments)
    out = Path(options.out)
    reason = "asked for" if options.loopback else why_no_namespaces()
    if reason:
        print(f"On loopback, without the faults that need network namespaces: {reason}.")
    options.whole = (
        options.seconds >= _WHOLE_RUN and not reason and options.rows is options.rounds is options.campaigns is None
    )
    named = options.campaigns is not None or options.rows is not None
    if options.campaigns is None:
        options.campaigns = _with(options.rows, whole=options.whole)
    if options.etcd:
        os.environ["ETCD_TEST_VERSION"] = options.etcd
    try:
        print(choose())
        version = version_of(find_etcd())
    except (EtcdServerError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    if left_out := {name: reason for name in options.campaigns if (reason := _why_not(name))}:
        for reason in dict.fromkeys(left_out.values()):
            print(reason, file=sys.stderr if named else sys.stdout)
        if named:
            return 1
        options.campaigns = [name for name in options.campaigns if name not in left_out]
    print(f"seed {options.seed}, {options.seconds:g} s, campaigns: {', '.join(options.campaigns)}", flush=True)
    signal.signal(signal.SIGTERM, _terminate)
    with tempfile.TemporaryDirectory(prefix="etcdleader-faults-") as folder:
        results = _run(options, Path(folder), isolate=not reason)
        if options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    lines = [line for name in options.campaigns for line in results.lines.get(name, ())]
    facts = {
        "seed": options.seed,
        "seconds": f"{options.seconds:g}",
        "etcd": f"{version}{', ' if options.gates else ''}{options.gates}",
        **({"upgrades": ROUTE} if set(UPGRADES) & set(options.campaigns) else {}),
        "network": "namespaces" if not reason else f"loopback ({reason})",
    }
    outcome = write_report(out, lines, facts)
    print(
        f"{outcome.injections} injections, {outcome.violations} violations, {outcome.complaints} other complaints. "
        f"The report is in {out / 'report.md'}"
    )
    if outcome.violations or results.failed:
        return 1
    return 2 if outcome.complaints or (options.whole and not _enough(outcome)) else 0


def _why_not(name: str) -> str:
    """Return why a campaign cannot be run here, or an empty string."""
    if name in UPGRADES and (missing := versions_missing()):
        return f"Without the upgrades of etcd: {missing}."
    if name == "five" and (missing := why_not_on(find_etcd())):
        return f"Without the campaign of five members: {missing}."
    return ""


def _enough(outcome: Outcome) -> bool:
    if outcome.injections >= _ENOUGH and not outcome.few:
        return True
    print(f"Too few to show anything; fewer than three times: {', '.join(outcome.few) or 'no row'}.")
    return False


def _with(rows: Sequence[str] | None, *, whole: bool = False) -> list[str]:
    """Return the campaigns that inject these rows, each row in one campaign.

    A row of one election is not repeated in hundreds. Some campaigns take two minutes each, so short runs leave them
    out unless they are named.
    """
    if rows is None:
        return [name for name in PLANS if whole or name not in IN_WHOLE_RUNS]
    left, names = set(rows), []
    for name, plan in PLANS.items():
        if left & set(plan):
            names.append(name)
            left -= set(plan)
    return names


class _Results:
    def __init__(self) -> None:
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.failed = False


def _run(options: argparse.Namespace, folder: Path, *, isolate: bool) -> _Results:
    """Run the main campaign, and in parallel, one after another, the campaigns that need another kind of cluster.

    Each has its share of the time. The campaigns of five members and of upgrades come last, and run until they have ended.
    """
    results, aborted, begun = _Results(), threading.Event(), time.monotonic()
    source = _own_copy(options.src, folder / "src")
    etcd_args = ("--feature-gates", options.gates) if options.gates else ()
    subject_options = {"source": source, "margin": options.margin, "retry": options.retry}

    def follow(names: Sequence[str]) -> None:
        for number, name in enumerate(names, 1):
            share = sum(map(_share, names[:number])) / (sum(map(_share, names)) or 1)
            try:
                results.lines[name] = run_campaign(
                    name, folder / name, until=begun + options.seconds * share, seed=options.seed,
                    isolate=isolate, options=subject_options, aborted=aborted, rows=options.rows,
                    rounds=options.rounds, candidates=options.candidates, elections=options.elections,
                    etcd_args=etcd_args,
                    say=lambda text: print(f"{time.monotonic() - begun:6.1f} {text}", flush=True),
                )  # fmt: skip
            except Exception:  # noqa: BLE001 - the other campaigns continue, and the exit status shows it
                traceback.print_exc()
                results.failed = True

    others = [name for name in options.campaigns if name != "main"]
    lanes = [names for names in ([name for name in options.campaigns if name == "main"], others) if names]
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(follow, names) for names in lanes]
        try:
            wait(running)
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            print("ending: everything is stopped and removed", flush=True)
            results.failed = True
            aborted.set()
            wait(running)
    return results


def _share(name: str) -> int:
    return 0 if name in IN_WHOLE_RUNS else 4 if name == "many" else 1


def _own_copy(source: str | None, to: Path) -> Path:
    """Return a copy of the package for the candidates, so that an edit during the run does not affect them."""
    package = own_package() if source is None else Path(source) / "etcdleader"
    shutil.copytree(package, to / "etcdleader", ignore=shutil.ignore_patterns("__pycache__"))
    return to


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="seconds for which faults are injected (600)")
    parser.add_argument(
        "--seed", default=secrets.token_hex(4), help="seed of the order of faults and of their variants"
    )
    parser.add_argument("--out", default="build/faults", help="the folder of the report (build/faults)")
    rows = sorted({row for plan in PLANS.values() for row in plan})
    parser.add_argument("--rows", nargs="+", choices=rows, metavar="ROW", help="only these rows of the catalogue")
    parser.add_argument("--rounds", type=int, help="the number of times to inject each row")
    parser.add_argument("--campaigns", nargs="+", choices=list(PLANS), help="only these campaigns")
    parser.add_argument("--src", help="a folder with another copy of the package for the candidates to run on")
    parser.add_argument("--etcd", help="the version of etcd, such as 3.7.3, unless ETCD_BINARY names a program")
    parser.add_argument("--gates", default="", help="etcd's feature gates, such as FastLeaseKeepAlive=false")
    parser.add_argument("--margin", type=float, default=1.0, help="the candidates' margin in seconds (1)")
    parser.add_argument("--retry", type=float, default=1.0, help="the candidates' retry in seconds (1)")
    parser.add_argument("--candidates", type=int, help="the number of processes (4, 2, 2, 3, 3 and 2 in the campaigns)")
    parser.add_argument(
        "--elections", type=int, help="the number of elections of each process (200 in `many`, 300 in `upgrade-many`)"
    )
    parser.add_argument("--loopback", action="store_true", help="use no network namespaces, even if they are available")
    parser.add_argument("--keep", help="a folder to copy every journal and log to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
