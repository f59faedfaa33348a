"""``etcdleader doctor``: check everything that an election depends on, and print what to do about problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._values.exit_codes import ExitCode
from .exit_on_error import exit_on_error
from .findings import Finding
from .options import (
    DEFAULT_SECTION,
    EndpointOption,
    JsonOption,
    OptionalNameArgument,
    SectionOption,
    SettingsOption,
    TimeoutOption,
    duration_option,
    examples,
)
from .output import console, printable, write_json

if TYPE_CHECKING:
    from .check_config import Setting

_CORRECT = "correct the setting; etcdleader check-config checks the settings without etcd"
_STYLES = {"ok": "green", "skipped": "dim", "warning": "yellow", "problem": "bold red"}


@examples(
    "etcdleader doctor jobs/nightly",
    "etcdleader doctor jobs/nightly --hold 60s",
    "etcdleader doctor --endpoint etcd-1:2379 --strict --json",
)
def doctor(
    name: OptionalNameArgument = None,
    timeout: TimeoutOption = "5s",
    hold: Annotated[
        Any,
        duration_option("Hold a stream open for this time, to check that neither pings nor proxies break it."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as problems.")] = False,  # noqa: FBT002
    settings: SettingsOption = None,
    section: SectionOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Check settings, etcd, permissions, clock and timing, and print what to do about each problem.

    By default, NAME is the election_key of the settings. The checks write no key. One lease is granted and revoked at
    once.

    Exit status: 0, even if there are warnings; 1 if there is a problem, or with --strict a warning.
    """
    import anyio

    from ..config import Config
    from ..errors import EtcdLeaderError
    from .check_config import read_all, settings_of
    from .checks import check_clock, check_etcd

    findings: list[Finding] = []
    with exit_on_error():
        screen = console()

        def report(finding: Finding) -> None:
            findings.append(finding)
            if not as_json:
                from rich.text import Text

                line = Text.assemble((f"{finding.level:8}", _STYLES[finding.level]), (f"{finding.check}: ", "bold"))
                line.append(printable(finding.what))
                if finding.advice:
                    line.append(f"\n{'':8}-> {printable(finding.advice)}", style="cyan")
                screen.print(line, soft_wrap=True)

        read = read_all(settings, DEFAULT_SECTION if section is None else section, endpoint)
        # Checks of etcd need no election, so a missing default table is no problem. A table that --section names must exist.
        without = read.no_section if section is None and read.etcd is not None else None
        for problem in read.problems:
            if problem != without:
                report(Finding("settings", "problem", problem, _CORRECT))
        if without is not None:
            what = f"there is no [{DEFAULT_SECTION}] table; the checks use the defaults"
            report(Finding("settings", "skipped", what))
        elif not read.problems:
            report(Finding("settings", "ok", _origins(settings_of(read))))
        report(check_clock())
        if read.etcd is None:
            advice = "set etcd.endpoints, or use --endpoint HOST:PORT"
            report(Finding("etcd", "skipped", "no endpoints are set", advice))
        else:
            checks = partial(check_etcd, timeout=timeout, hold=hold or 0.0)
            try:
                anyio.run(checks, read.etcd, read.config or Config(), name or read.election_key or None, report)
            except EtcdLeaderError as error:
                what = f"etcd stopped responding during the checks: {error}"
                report(Finding("the rest", "problem", what, "run this again"))
        problems = sum(finding.level == "problem" for finding in findings)
        warnings = sum(finding.level == "warning" for finding in findings)
        failed = problems > 0 or (strict and warnings > 0)
        if as_json:
            write_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
        else:
            screen.print(f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}.")
    raise typer.Exit(ExitCode.NO if failed else ExitCode.OK)


def _origins(settings: Sequence[Setting]) -> str:
    """Return the settings that are set, grouped by source."""
    found: dict[str, list[str]] = {}
    for setting in settings:
        if setting.origin != "default":
            found.setdefault(setting.origin, []).append(f"{setting.name} = {setting.value}")
    return "; ".join(f"from {origin}: {', '.join(them)}" for origin, them in found.items()) + "; defaults for the rest"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
