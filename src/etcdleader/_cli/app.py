"""The commands: arguments in, exit status out. What they do is elsewhere."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import NoReturn

import rich  # noqa: F401 - most of it is loaded when it is needed; that it is missing is said at once
import typer

from .._values.exit_codes import ExitCode
from .check_config import EPILOG as CHECK_CONFIG_EXAMPLES
from .check_config import check_config
from .doctor import EPILOG as DOCTOR_EXAMPLES
from .doctor import doctor
from .observe import EPILOG as OBSERVE_EXAMPLES
from .observe import observe
from .options import paragraphs
from .run.command import CONTEXT, EPILOG, HELP, run
from .status import EPILOG as STATUS_EXAMPLES
from .status import status
from .step_down import EPILOG as STEP_DOWN_EXAMPLES
from .step_down import step_down

# Tracebacks stay Python's own: the pretty ones show the values of variables, and so, one day, a password.
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"etcdleader {version('etcdleader')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: bool = typer.Option(
        False,  # noqa: FBT003 - the default
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Show the version and exit.",
    ),
) -> None:
    """Leader election on etcd leases."""


@app.command()
def demo() -> None:
    """Watch an election: a leader dies, another takes over, a late write is refused.

    Starts an etcd of its own and three candidates, each a process of its own, reads no settings, and ends by itself
    in less than 40 seconds. Ctrl-C ends it at once. Nothing is left behind.
    """
    from rich.console import Console

    from ..testing import EtcdServerError
    from .demo.command import DemoError, play

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # so that the terminal and the temporary folder are cleaned up then, too
    try:
        play(Console(highlight=False))
    except (DemoError, EtcdServerError, FileNotFoundError) as error:
        typer.echo(f"The demo failed: {error}", err=True)
        raise typer.Exit(ExitCode.NO) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. Nothing was left running.", err=True)
        raise typer.Exit(ExitCode.SIGNAL + signal.SIGINT) from None


app.command(context_settings=CONTEXT, help=HELP, epilog=EPILOG)(run)
app.command(help=paragraphs(status), epilog=STATUS_EXAMPLES)(status)
app.command(help=paragraphs(observe), epilog=OBSERVE_EXAMPLES)(observe)
app.command(help=paragraphs(step_down), epilog=STEP_DOWN_EXAMPLES)(step_down)
app.command(help=paragraphs(check_config), epilog=CHECK_CONFIG_EXAMPLES)(check_config)
app.command(help=paragraphs(doctor), epilog=DOCTOR_EXAMPLES)(doctor)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(ExitCode.SIGNAL + number)
