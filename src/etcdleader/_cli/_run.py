"""``etcdleader run``: a command that runs only while this process leads."""

from __future__ import annotations

import shutil
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from .._core.durations import parse_duration
from .._etcd_manager import EtcdLeaderManager
from .._noop_manager import NoopLeaderManager
from ..errors import EtcdRegressedError
from ._common import EndpointOption, SectionOption, SettingsOption, told
from ._run_campaign import BROKEN, Plan, Runner
from ._run_child import Limits
from ._run_log import LogFormat, log_to_stderr
from ._run_settings import Overrides, make_manager, seconds_to_end
from ._supervisor import LINUX, become_subreaper

__all__ = ("CONTEXT", "EPILOG", "HELP", "run")

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

_END_OF_HELP = (
    "Examples:",
    "  etcdleader run --election nightly --endpoint etcd:2379 -- ./nightly.sh --all",
    "  etcdleader run --election mail --restart --on-lost 'logger lost' -- mail-sender --foreground",
    "  etcdleader run --election admin --nowait -- python -i",
    "Exit status: that of the command, or 128 + the number of the signal that ended it; or one of these:",
    "  2    wrong usage",
    "  69   etcd did not answer (--nowait)",
    "  70   broken: the supervisor was killed, or etcd went back in time",
    "  75   somebody else leads (--nowait, --wait)",
    "  77   etcd refused: login, permission or certificate (--nowait)",
    "  78   the settings are wrong",
    "  126  the command cannot be executed",
    "  127  there is no such command",
    "  128 + n  ended by signal n while it did not lead",
)
EPILOG = "\n\n".join(_END_OF_HELP)


def _duration(value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds < 0:
        raise typer.BadParameter("must not be negative")
    return seconds


def _address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise typer.BadParameter("must be HOST:PORT")
    return host.strip("[]"), int(port)


def _override(setting: str, text: str) -> Any:
    return typer.Option(
        f"--{setting}",
        metavar="TEXT" if setting == "id" else "DURATION",
        show_default=False,
        help=text,
        rich_help_panel="Settings",
    )


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
        typer.Option(
            metavar="DURATION",
            parser=_duration,
            show_default=False,
            help="Wait no longer than that for the leadership, then end with status 75.",
        ),
    ] = None,
    grace: Annotated[
        Any,
        typer.Option(
            metavar="DURATION",
            parser=_duration,
            help="What lies between SIGTERM and SIGKILL when the leadership is lost; less where the lease requires it.",
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
    section: SectionOption = "leader",
    endpoint: EndpointOption = None,
    id: Annotated[  # noqa: A002 - the setting's name
        str | None, _override("id", "What the identity begins with; {host} and {pid} in it are replaced.")
    ] = None,
    lease: Annotated[str | None, _override("lease", "How long the seat stays taken when its holder is gone.")] = None,
    retry: Annotated[str | None, _override("retry", "Bound of one attempt, and the longest pause between two.")] = None,
    renew: Annotated[str | None, _override("renew", "From one renewal to the next.")] = None,
    margin: Annotated[
        str | None, _override("margin", "How long before the lease ends the leader stops believing in it.")
    ] = None,
) -> None:
    """Run a command only while this process leads an election."""
    if nowait and wait is not None:
        raise typer.BadParameter("--nowait and --wait exclude each other")
    if shutil.which(command[0]) is None:
        there = Path(command[0]).exists()
        typer.echo(f"etcdleader: {command[0]}: {'cannot be executed' if there else 'no such command'}", err=True)
        raise typer.Exit(126 if there else 127)
    facts: dict[str, object] = {}
    log_to_stderr(log_format, verbose=verbose, facts=facts)
    overrides = Overrides(id=id, lease=lease, retry=retry, renew=renew, margin=margin, endpoints=endpoint)
    with told():
        manager = make_manager(election, settings, section, overrides)
        facts.update(election=manager.election_key, identity=manager.identity)
        lead, after = seconds_to_end(manager, grace)
        plan = Plan(
            command=command,
            limits=Limits(grace, lead, after, _ignored_signals()),
            restart=restart,
            nowait=nowait,
            wait=wait,
            on_lost=on_lost,
        )
        raise typer.Exit(_campaign(manager, plan, http))


def _ignored_signals() -> frozenset[int]:
    """Those that this process was started with ignored, such as SIGHUP by ``nohup``: so shall the command be."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return frozenset(ignored - {signal.SIGPIPE, signal.SIGXFSZ})  # Python itself ignores these


def _campaign(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan, http: tuple[str, int] | None) -> int:
    if not LINUX:
        typer.echo(
            "etcdleader: warning: this is not Linux. What leaves the command's process group is not found when it has "
            "to be ended, nothing ends the command when its supervisor is killed, and the clock may not count suspend.",
            err=True,
        )
    become_subreaper()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # the command has the terminal; a line on stderr must not stop us
    try:
        serving = nullcontext() if http is None else _serving(manager, *http)
        with serving:
            return _outcome(manager, plan)
    except OSError as error:
        typer.echo(f"etcdleader: --http: {error}", err=True)
        return BROKEN


def _outcome(manager: EtcdLeaderManager | NoopLeaderManager, plan: Plan) -> int:
    # What ends a campaign is in the log already.
    try:
        return anyio.run(Runner(manager, plan).run)
    except EtcdRegressedError:
        return BROKEN
    except OSError:
        return 126  # the command could not even be tried: its arguments are too long, or there is no more memory


def _serving(manager: EtcdLeaderManager | NoopLeaderManager, host: str, port: int) -> AbstractContextManager[object]:
    from ..health import serve

    registry = None
    try:
        from prometheus_client import REGISTRY

        from ..prometheus import PrometheusMetrics
    except ModuleNotFoundError:
        pass
    else:
        PrometheusMetrics().watch(manager)
        registry = REGISTRY
    return serve(manager, host, port, registry=registry)
