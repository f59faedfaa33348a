"""``etcdleader run``: a command that runs only while this process leads."""

from __future__ import annotations

import inspect
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from ..._settings.known import option_of
from ..._values.exit_codes import ExitCode
from ..._values.kinds import Kind, kinds
from ...config import Config
from ..exit_on_error import exit_on_error
from ..options import EndpointOption, SectionOption, SettingsOption, duration_option
from .log_format import LogFormat, log_to_stderr

_logger = logging.getLogger("etcdleader.run")

CONTEXT: dict[str, Any] = {"allow_interspersed_args": False}
"""What comes after the first word of the command is the command's."""

HELP = (
    "Run a command only while this process leads an election.\n\n"
    "It campaigns, starts COMMAND when it leads, and ends with its status when it has ended. When the leadership is "
    "lost, COMMAND and all that it has started get SIGTERM, and SIGKILL before anybody else can lead; then it campaigns "
    "again.\n\n"
    "COMMAND finds ETCDLEADER_TOKEN, _ELECTION, _KEY, _IDENTITY and _LEASE_ID in its environment, and no password. "
    "Signals and the terminal are passed on to it."
)

_MEANINGS = {
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNAVAILABLE: "etcd did not answer (--nowait, --wait)",
    ExitCode.BROKEN: "broken: the supervisor was killed",
    ExitCode.NO_SERVICE: "--http cannot be served",
    ExitCode.NOT_YET: "another candidate leads (--nowait, --wait)",
    ExitCode.REGRESSED: "etcd went back in time: look before you start it again",
    ExitCode.REFUSED: "etcd refused: login, permission or certificate (--nowait, --wait)",
    ExitCode.CONFIG: "the settings are wrong",
    ExitCode.NOT_EXECUTABLE: "the command cannot be executed",
    ExitCode.NOT_FOUND: "there is no such command",
}
_END_OF_HELP = (
    "Examples:",
    "  etcdleader run --election nightly --endpoint etcd:2379 -- ./nightly.sh --all",
    "  etcdleader run --election mail --restart --on-lost 'logger lost' -- mail-sender --foreground",
    "  etcdleader run --election admin --nowait -- python -i",
    f"Exit status: that of the command, or {ExitCode.SIGNAL} + the number of the signal that ended it; or one of these:",
    *(f"  {code:<5}{meaning}" for code, meaning in _MEANINGS.items()),
    f"  {ExitCode.SIGNAL} + n  ended by signal n while it did not lead",
)
EPILOG = "\n\n".join(_END_OF_HELP)


def _address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise typer.BadParameter("must be HOST:PORT")
    return host.strip("[]"), int(port)


def _log_error(text: str) -> None:
    _logger.error("%s", text)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting of an election that has a help text, in place of its ``**``."""
    options = [
        Parameter(
            setting.name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    option_of(setting.name),
                    metavar="DURATION" if kinds(Config)[setting.name] is Kind.DURATION else "TEXT",
                    show_default=False,
                    help=setting.metadata["help"],
                    rich_help_panel="Settings",
                ),
            ],
        )
        for setting in fields(Config)
        if "help" in setting.metadata
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    vars(command)["__signature__"] = signature.replace(parameters=[*own, *options])
    return command


@_with_settings
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", show_default=False, help="What to run.")],
    *,
    election: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default=False, help="What to campaign for. By default the setting election_key."
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="When the command has ended, campaign again.")] = False,
    nowait: Annotated[
        bool,
        typer.Option("--nowait", "--once", help="Do not wait, and do not campaign again: status 75 if another leads."),
    ] = False,
    wait: Annotated[
        Any,
        duration_option(
            "Wait no longer than that for the leadership, then end: status 75 if another candidate leads, 69 or 77 if "
            "etcd does not answer or refuses. With 0s the first answer decides.",
            zero=True,
        ),
    ] = None,
    grace: Annotated[
        Any,
        duration_option(
            "What lies between SIGTERM and SIGKILL when the leadership is lost, or after a second SIGTERM; less where the "
            "lease requires it.",
            zero=True,
        ),
    ] = "10s",
    on_lost: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            show_default=False,
            help="A line for the shell, run when the leadership was lost and nothing of the command is left.",
        ),
    ] = None,
    http: Annotated[
        Any,
        typer.Option(
            metavar="HOST:PORT",
            parser=_address,
            show_default=False,
            help="Answer /leader, /livez, /readyz and, with prometheus_client, /metrics there.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How lines on stderr look.")] = LogFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log all that the library says.")] = False,
    settings: SettingsOption = None,
    section: SectionOption = None,
    endpoint: EndpointOption = None,
    **given: str | None,
) -> None:
    """Run a command only while this process leads an election."""
    if nowait and wait is not None:
        raise typer.BadParameter("--nowait and --wait exclude each other")
    facts: dict[str, object] = {}
    log_to_stderr(log_format, verbose=verbose, facts=facts)
    if getattr(sys, "frozen", False):
        _logger.error("run starts its supervisor with a Python interpreter, and %s is a frozen program", sys.executable)
        raise typer.Exit(ExitCode.BROKEN)
    if shutil.which(command[0]) is None:
        there = Path(command[0]).exists()
        _logger.error("%s: %s", command[0], "cannot be executed" if there else "no such command")
        raise typer.Exit(ExitCode.NOT_EXECUTABLE if there else ExitCode.NOT_FOUND)
    # Not before: for the other commands it would be a third of their start.
    from ..._settings.sources import Overrides
    from .child import Limits
    from .process import conduct, ignored_signals
    from .runner import Plan
    from .settings import make_manager, resolve_run, seconds_to_end

    with exit_on_error(_log_error):
        read = resolve_run(election, settings, section, Overrides(given, endpoint, enabled=True))
        manager = make_manager(read)
        facts.update(election=manager.election_key, identity=manager.identity)
        lead, after = seconds_to_end(manager, grace)
        plan = Plan(
            command=command,
            limits=Limits(grace, lead, after, ignored_signals(), json_errors=log_format is LogFormat.JSON),
            restart=restart,
            nowait=nowait,
            wait=wait,
            on_lost=on_lost,
            endpoints=1 if read.etcd is None else len(read.etcd.endpoints),
        )
        raise typer.Exit(conduct(manager, plan, http))
