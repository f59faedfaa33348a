"""The arguments and options of ``etcdleader run``."""

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
from ..._values.addresses import most_tries
from ..._values.exit_codes import ExitCode
from ..._values.kinds import Kind, kinds
from ...config import Config
from ..exit_on_error import exit_on_error
from ..options import EndpointOption, SectionOption, SettingsOption, duration_option
from .log_format import LogFormat, log_to_stderr

_logger = logging.getLogger("etcdleader.run")

CONTEXT: dict[str, Any] = {"allow_interspersed_args": False}
"""All words after the first word of COMMAND belong to COMMAND, including options."""

HELP = (
    "Run a command only while this process leads an election.\n\n"
    "It campaigns, starts COMMAND when it is elected, and exits with COMMAND's status. When leadership is lost, COMMAND "
    "and all processes that it started get SIGTERM, and SIGKILL before another candidate can lead. Then it campaigns "
    "again.\n\n"
    "The environment of COMMAND has ETCDLEADER_TOKEN, _ELECTION, _KEY, _IDENTITY and _LEASE_ID, and no password. "
    "Signals and the terminal are passed on to COMMAND."
)

_MEANINGS = {
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNAVAILABLE: "etcd did not respond (--nowait, --wait)",
    ExitCode.BROKEN: "broken: the supervisor was killed",
    ExitCode.NO_SERVICE: "--http cannot be served",
    ExitCode.NOT_YET: "another candidate leads (--nowait, --wait)",
    ExitCode.REGRESSED: "etcd was wiped or restored from a backup: check it before a restart",
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
    "  etcdleader run --election migration --done v42 -- ./migrate.sh",
    "  etcdleader run --election tick --nowait --at-least 50s -- ./every-minute.sh",
    f"Exit status: the status of COMMAND; {ExitCode.SIGNAL} + n if signal n ended it; or one of these:",
    *(f"  {code:<5}{meaning}" for code, meaning in _MEANINGS.items()),
    f"  {ExitCode.SIGNAL} + n  signal n arrived while this process did not lead",
)
EPILOG = "\n\n".join(_END_OF_HELP)


def _address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise typer.BadParameter("must be HOST:PORT")
    return host.strip("[]"), int(port)


def _done(value: str | None) -> str | None:
    if value is not None:
        from ..._managers.once import validate_name

        try:
            validate_name(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def _log_error(text: str) -> None:
    _logger.error("%s", text)


def setting_options(config: type) -> list[Parameter]:
    """Return one option for each setting that has a help text. A flag becomes ``--name/--no-name``."""
    metavars = {Kind.DURATION: "DURATION", Kind.FLAG: None}
    options = []
    for setting in fields(config):
        if "help" not in setting.metadata:
            continue
        kind, name = kinds(config)[setting.name], option_of(setting.name)
        option = typer.Option(
            f"{name}/--no-{name.removeprefix('--')}" if kind is Kind.FLAG else name,
            metavar=metavars.get(kind, "TEXT"),
            show_default=False,
            help=setting.metadata["help"],
            rich_help_panel="Settings",
        )
        taken: Any = bool | None if kind is Kind.FLAG else str | None
        options.append(
            Parameter(setting.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[taken, option])
        )
    return options


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the ``**`` parameter of a command by one option for each setting of an election that has a help text."""
    options = setting_options(Config)
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    for name in {each.name for each in own} & {each.name for each in options}:
        raise TypeError(f"the setting {name!r} has the name of an option of run: give it another name, or no help text")
    vars(command)["__signature__"] = signature.replace(parameters=[*own, *options])
    return command


@_with_settings
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", show_default=False, help="The command to run.")],
    *,
    election: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default=False, help="The election to campaign in. By default the setting election_key."
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Campaign again after COMMAND has ended.")] = False,
    nowait: Annotated[
        bool,
        typer.Option("--nowait", help="Neither wait nor campaign again. Exit with 75 if another candidate leads."),
    ] = False,
    wait: Annotated[
        Any,
        duration_option(
            "Wait at most this time for leadership. Then exit with 75 if another candidate leads, 69 if etcd does not "
            "respond, or 77 if it refuses. With 0s, the first response decides.",
            zero=True,
        ),
    ] = None,
    grace: Annotated[
        Any,
        duration_option(
            "Grace period between SIGTERM and SIGKILL after leadership is lost, or after a second SIGTERM; shortened if "
            "the lease expires sooner.",
            zero=True,
        ),
    ] = "10s",
    done: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=_done,
            show_default=False,
            help="Do the work of this name once for all. Status 0 of COMMAND is recorded in etcd. All others wait for the "
            "record, and exit with 0.",
        ),
    ] = None,
    at_least: Annotated[
        Any,
        duration_option(
            "Keep leadership for at least this time after winning it, even if COMMAND ends earlier.",
            "--at-least",
        ),
    ] = None,
    on_elected: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            show_default=False,
            help="Shell command to run after this process is elected, before COMMAND starts.",
        ),
    ] = None,
    on_lost: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            show_default=False,
            help="Shell command to run after leadership is lost and all processes of COMMAND have ended.",
        ),
    ] = None,
    http: Annotated[
        Any,
        typer.Option(
            metavar="HOST:PORT",
            parser=_address,
            show_default=False,
            help="Serve /leader, /livez, /readyz and, with prometheus_client, /metrics at this address.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Format of the lines on stderr.")] = LogFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log all lines of the library.")] = False,
    settings: SettingsOption = None,
    section: SectionOption = None,
    endpoint: EndpointOption = None,
    **given: str | bool | None,
) -> None:
    """Run a command only while this process leads an election."""
    if nowait and wait is not None:
        raise typer.BadParameter("--nowait and --wait exclude each other")
    if done is not None and (restart or at_least is not None):
        raise typer.BadParameter("--done excludes --restart and --at-least")
    facts: dict[str, object] = {}
    log_to_stderr(log_format, verbose=verbose, facts=facts)
    if getattr(sys, "frozen", False):
        _logger.error(
            "%s is a frozen program, and run needs a Python interpreter: install etcdleader with pip", sys.executable
        )
        raise typer.Exit(ExitCode.BROKEN)
    if shutil.which(command[0]) is None:
        there = Path(command[0]).exists()
        _logger.error("%s: %s", command[0], "cannot be executed" if there else "no such command")
        raise typer.Exit(ExitCode.NOT_EXECUTABLE if there else ExitCode.NOT_FOUND)
    # Imported late: for the other commands, these imports would be a third of their start time.
    from ..._settings.sources import Overrides
    from .child import Limits
    from .plan import Plan
    from .process import conduct, ignored_signals
    from .settings import make_manager, resolve_run, seconds_to_end

    with exit_on_error(_log_error):
        read = resolve_run(election, settings, section, Overrides(given, endpoint, enabled_by_default=True))
        manager = make_manager(read)
        facts.update(election=manager.election_key, identity=manager.identity)
        plan = Plan(
            command=command,
            limits=Limits(
                grace,
                *seconds_to_end(manager, grace),
                ignored=ignored_signals(),
                json_errors=log_format is LogFormat.JSON,
            ),
            restart=restart,
            nowait=nowait,
            wait=wait,
            done=done,
            at_least=at_least or 0.0,
            on_elected=on_elected,
            on_lost=on_lost,
            endpoints=1 if read.etcd is None else most_tries(read.etcd.endpoints),
        )
        raise typer.Exit(conduct(manager, plan, http))
