"""How commands end if something goes wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from .._values.exit_codes import ExitCode
from ..errors import ConfigError, EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .output import clean


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def exit_on_error(say: Callable[[str], None] = _to_stderr) -> Iterator[None]:
    """Exit with an error message, and the exit code for that kind of error, if the block raises.

    Args:
        say: Shows the message. By default it is printed on stderr.
    """

    def end(code: ExitCode, text: str) -> NoReturn:
        say("\n".join(clean(line) for line in text.splitlines()))
        raise typer.Exit(code) from None

    try:
        yield
        sys.stdout.flush()
    except ConfigError as error:
        end(ExitCode.CONFIG, f"The settings are wrong: {error}")
    except EtcdRefusedError as error:
        end(ExitCode.REFUSED, f"etcd refused: {error}")
    except EtcdUnavailableError as error:
        end(ExitCode.UNAVAILABLE, f"etcd does not answer: {error}")
    except EtcdRegressedError as error:
        end(ExitCode.REGRESSED, str(error))
    except EtcdLeaderError as error:
        end(ExitCode.NO, str(error))
    except OSError as error:
        # What is still in the buffer must not fail when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(ExitCode.OK) from None  # who reads has had enough
        end(ExitCode.IO, f"It cannot go on: {error}")
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNAL + signal.SIGINT) from None
