"""Build the listed versions of etcd, and run on each the tests that meet a server.

Usage::

    python -m tests.versions.run choose                  # what `make test` runs on; builds it if need be
    python -m tests.versions.run build [VERSION ...]
    python -m tests.versions.run test [VERSION ...]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from etcdleader.testing import EtcdServerError
from etcdleader.testing._etcd_binary import find_etcd
from etcdleader.testing._etcd_builder import normal_version
from tests.versions.choice import choose
from tests.versions.listed import Listed, chosen

__all__ = ("main",)

LOGS = Path("build/etcds")
TIME_LIMIT_SECONDS = 1800.0
"""For the tests of one version, which take four to five minutes on two processors."""
FOLDERS = ("tests/contract", "tests/etcd", "tests/faults", "tests/interop")
"""Each process of pytest-xdist would load all other folders, too: a minute of processor time for each version."""
IGNORED = (
    *("tests/etcd/test_blocking.py", "tests/etcd/test_demo.py", "tests/etcd/test_fork.py"),
    *("tests/etcd/test_frameworks_page.py", "tests/etcd/test_health.py", "tests/etcd/test_load_balancer.py"),
    *("tests/etcd/test_printed_programs.py", "tests/etcd/test_readme.py", "tests/etcd/test_signals.py"),
    *("tests/etcd/test_upgrade_of_the_library.py", "tests/project/test_benchmarks.py"),
)
"""Files about threads, processes and pages. They meet a server, but make the same calls on every version."""
# As in the Makefile, but only what meets a server: the rest says the same on every version.
PYTEST = (
    *("-m", "pytest", "-m", "etcd", "-n", "5", "--dist", "loadfile", "--no-loadscope-reorder", *FOLDERS),
    *(f"--ignore={path}" for path in IGNORED),
)
_COUNT = re.compile(r"\d+ (?:failed|passed|skipped|errors?|xfailed)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions.run", description=__doc__)
    parser.add_argument("what", choices=("choose", "build", "test"))
    parser.add_argument("versions", nargs="*", type=normal_version, help="instead of all that are listed")
    options = parser.parse_args(arguments)
    if options.what == "choose":
        return _choose()
    if os.environ.get("ETCD_BINARY"):
        print("ETCD_BINARY is set, and overrides every version: unset it", file=sys.stderr)
        return 2
    step = _build if options.what == "build" else _test
    outcomes = [step(entry) for entry in chosen(options.versions)]  # all of them, also after a failure
    return 0 if all(outcomes) else 1


def _choose() -> int:
    try:
        print(choose())
    except EtcdServerError as error:
        print(f"{error}\nTo run on the wheel's etcd instead, set ETCD_TEST_VERSION=3.5.1", file=sys.stderr)
        return 1
    return 0


def _build(entry: Listed) -> bool:
    begun = time.monotonic()
    try:
        etcd = find_etcd(version=entry.version)
    except EtcdServerError as error:
        print(f"{entry.version:8} {'FAILED' if entry.required else 'left out'}: {error}", flush=True)
        return not entry.required
    print(f"{entry.version:8} {time.monotonic() - begun:6.1f} s  {etcd}", flush=True)
    return True


def _test(entry: Listed) -> bool:
    """Run the tests on one version. Print a line of counts, and the tests that failed."""
    try:
        find_etcd(version=entry.version)
    except EtcdServerError as error:
        reason = str(error).splitlines()[0]
        print(f"{entry.version:8} {'FAILED' if entry.required else 'left out'}: {reason}", flush=True)
        return not entry.required
    LOGS.mkdir(parents=True, exist_ok=True)
    log, begun, status = LOGS / f"{entry.version}.log", time.monotonic(), "FAILED"
    with log.open("w") as output:
        try:
            done = subprocess.run(
                [sys.executable, *PYTEST], env={**os.environ, "ETCD_TEST_VERSION": entry.version},
                stdout=output, stderr=subprocess.STDOUT, timeout=TIME_LIMIT_SECONDS, check=False,
            )  # fmt: skip
            status = "passed" if done.returncode == 0 else "FAILED"
        except subprocess.TimeoutExpired:
            output.write(f"\nkilled after {TIME_LIMIT_SECONDS:g} s\n")
    lines = log.read_text(errors="replace").splitlines()
    counts = ", ".join(_COUNT.findall(lines[-1] if lines else "")) or "no test was run to its end"
    print(f"{entry.version:8} {status}: {counts}; {time.monotonic() - begun:.0f} s  {log}", flush=True)
    for line in lines:
        if line.startswith(("FAILED tests", "ERROR tests")):
            print(f"         {line}")
    return status == "passed"


if __name__ == "__main__":
    sys.exit(main())
