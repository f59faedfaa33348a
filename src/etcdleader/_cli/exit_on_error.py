"""Map errors of a command to a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from .. import errors
from .._values.exit_codes import ExitCode
from .output import printable


def _to_stderr(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def exit_on_error(say: Callable[[str], None] = _to_stderr) -> Iterator[None]:
    """Exit with a message and an exit code if the block raises an error. Each kind of error has its own code.

    Args:
        say: Shows the message. The default prints it on stderr.
    """

    def end(code: ExitCode, text: str) -> NoReturn:
        say("\n".join(printable(line) for line in text.splitlines()))
        raise typer.Exit(code) from None

    try:
        yield
        sys.stdout.flush()
    except errors.ConfigError as error:
        end(ExitCode.CONFIG, f"The settings are wrong: {error}")
    except errors.EtcdRefusedError as error:
        end(ExitCode.REFUSED, f"etcd refused: {error}")
    except errors.EtcdUnavailableError as error:
        end(ExitCode.UNAVAILABLE, f"etcd does not respond: {error}")
    except errors.EtcdRegressedError as error:
        end(ExitCode.REGRESSED, str(error))
    except errors.HandOverError as error:
        end(ExitCode.NOT_YET if error.ahead else ExitCode.NO, str(error))
    except errors.EtcdLeaderError as error:
        end(ExitCode.NO, str(error))
    except OSError as error:
        # The interpreter flushes stdout at exit. Buffered output must not fail again there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(ExitCode.OK) from None  # the reader has exited
        end(ExitCode.IO, f"The command cannot continue: {error}")
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNAL + signal.SIGINT) from None
