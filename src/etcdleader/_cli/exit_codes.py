"""How commands end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer

from ..errors import ConfigError, EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .output import clean

__all__ = ("ExitCode", "told")


class ExitCode(IntEnum):
    """How a command ends. Above 64 they are those of ``sysexits.h``; ``docs/commands.md`` lists them for each."""

    OK = 0
    NO = 1
    """The election has no leader, a check found a problem, or the user declined a confirmation."""
    UNAVAILABLE = 69
    """etcd did not answer."""
    IO = 74
    """The output cannot be written."""
    NOT_YET = 75
    """The leader has not left in time."""
    REFUSED = 77
    """etcd refused: login, permission or certificate."""
    CONFIG = 78
    """The settings are wrong."""


@contextmanager
def told() -> Iterator[None]:
    """Exit with an error message on stderr, and the exit code for that kind of error, if the block raises."""
    try:
        yield
        sys.stdout.flush()
    except ConfigError as error:
        _end(ExitCode.CONFIG, f"The settings are wrong: {error}")
    except EtcdRefusedError as error:
        _end(ExitCode.REFUSED, f"etcd refused: {error}")
    except EtcdUnavailableError as error:
        _end(ExitCode.UNAVAILABLE, f"etcd does not answer: {error}")
    except EtcdLeaderError as error:
        _end(ExitCode.NO, str(error))
    except OSError as error:
        # What is still in the buffer must not fail when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(ExitCode.OK) from None  # who reads has had enough
        _end(ExitCode.IO, f"It cannot go on: {error}")
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


def _end(code: ExitCode, text: str) -> NoReturn:
    typer.echo("\n".join(clean(line) for line in text.splitlines()), err=True)
    raise typer.Exit(code) from None
