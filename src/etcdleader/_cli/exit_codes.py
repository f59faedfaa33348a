"""How commands end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer

from ..errors import ConfigError, EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .output import clean

__all__ = ("ExitCode", "told")


class ExitCode(IntEnum):
    """How a command ends. Above 64 they are those of ``sysexits.h``; ``docs/commands.md`` lists them for each."""

    OK = 0
    NO = 1
    """The election has no leader, a check found a problem, or the user declined a confirmation."""
    UNAVAILABLE = 69
    """etcd did not answer."""
    BROKEN = 70
    """The supervisor of the command was killed, or the wrapper ended itself."""
    NO_SERVICE = 71
    """The pages of ``--http`` cannot be served."""
    IO = 74
    """The output cannot be written."""
    NOT_YET = 75
    """The leader has not left in time, or another candidate leads."""
    REGRESSED = 76
    """etcd went back in time."""
    REFUSED = 77
    """etcd refused: login, permission or certificate."""
    CONFIG = 78
    """The settings are wrong."""


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def told(say: Callable[[str], None] = _to_stderr) -> Iterator[None]:
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
        raise typer.Exit(128 + signal.SIGINT) from None
