"""The typer application: it registers all commands."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import NoReturn

import rich  # noqa: F401 - reports a missing rich at once; its parts are loaded when they are needed
import typer

from .._values.exit_codes import ExitCode
from .check_config import check_config
from .doctor import doctor
from .observe import observe
from .run.command import CONTEXT, EPILOG, HELP, run
from .status import status
from .step_down import step_down

# Keep Python's own tracebacks. Typer's tracebacks show the values of variables, and so possibly a password.
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer passes it by position
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

    Starts a private etcd and three candidate processes, and reads no settings. The demo takes less than 40 seconds.
    Ctrl-C ends it at once. No process or file is left behind.
    """
    from rich.console import Console

    from ..testing import EtcdServerError
    from .demo.scenes import DemoError, play

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # cleans up the terminal and the temporary folder
    try:
        play(Console(highlight=False))
    except (DemoError, EtcdServerError, FileNotFoundError) as error:
        typer.echo(f"The demo failed: {error}", err=True)
        raise typer.Exit(ExitCode.NO) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. All processes of the demo have ended.", err=True)
        raise typer.Exit(ExitCode.SIGNAL + signal.SIGINT) from None


app.command(context_settings=CONTEXT, help=HELP, epilog=EPILOG)(run)
for command in (status, observe, step_down, check_config, doctor):
    app.command(**vars(command)["help_options"])(command)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(ExitCode.SIGNAL + number)
