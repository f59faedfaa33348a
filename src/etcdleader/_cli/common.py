"""What the commands share: options, where etcd is, how they end, how they print."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .._values.durations import parse_duration
from ..config import EtcdConfig, check_election_key
from ..errors import ConfigError, EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = (
    "EndpointOption",
    "ExitCode",
    "JsonOption",
    "NameArgument",
    "OptionalNameArgument",
    "SectionOption",
    "SettingsOption",
    "TimeoutOption",
    "clean",
    "console",
    "duration",
    "etcd_config",
    "examples",
    "paragraphs",
    "told",
    "write_json",
)


class ExitCode(IntEnum):
    """How a command ends. Above 64 they are those of ``sysexits.h``; ``docs/commands.md`` lists them for each."""

    OK = 0
    NO = 1
    """The answer is no: nobody leads, a problem was found, the question was answered with no."""
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


def _name(value: str | None) -> str | None:
    if value is not None:
        try:
            check_election_key(value)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def duration(value: str) -> float:
    """Seconds, from what was typed."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds <= 0:
        raise typer.BadParameter("must be positive")
    return seconds


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", callback=_name, show_default=False, help="The election: its election_key.")
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", callback=_name, show_default=False, help="The election: its election_key."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        show_default=False,
        help="Read this TOML file, and nothing else. By default settings.toml, .secrets.toml, the same under config/, "
        ".env, and variables ETCDLEADER_...",
    ),
]
SectionOption = Annotated[
    str, typer.Option("--section", metavar="TABLE", help="The table of the election's settings; may be dotted.")
]
EndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="HOST:PORT",
        show_default=False,
        help="Where etcd is, instead of the setting etcd.endpoints; may be repeated. User, password and certificates "
        "are still those of the settings.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TimeoutOption = Annotated[
    Any,
    typer.Option("--timeout", metavar="DURATION", parser=duration, help='How long each call may take: "5s", "500ms".'),
]


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def paragraphs(command: Callable[..., object]) -> str:
    """A command's docstring, for typer: it would keep the line breaks of the source in a terminal of any width."""
    return "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))


def etcd_config(settings: Path | None, endpoints: Sequence[str] | None) -> EtcdConfig:
    """Where etcd is, by the settings and the options.

    Raises:
        ConfigError: All that is wrong with it.
    """
    from .._settings.sources import read_settings

    read = read_settings(settings, "leader")
    problems = [*read.unreadable, *read.etcd.problems]
    values: dict[str, Any] = dict(read.etcd.values)
    if endpoints:
        values["endpoints"] = endpoints
    elif not read.etcd.exists and not problems:
        problems.append(f"{read.nowhere('there is no [etcd] section')}; or say --endpoint HOST:PORT")
    config = None
    try:
        config = EtcdConfig(**values)
    except ConfigError as error:
        problems += [read.etcd.explain(problem) for problem in error.problems]
    if config is None or problems:
        raise ConfigError(*problems)
    return config


@contextmanager
def told() -> Iterator[None]:
    """End the command with one line on stderr and a status of its own, where it cannot go on."""
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


def console() -> Console:
    """Where to print: on a terminal with colours (unless NO_COLOR is set) and in its width, else plain and uncut."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=100_000, no_color=True)


def clean(text: str) -> str:
    """``text`` without what could steer a terminal: identities and keys are what others wrote."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def write_json(value: Mapping[str, object], *, indent: int | None = 2) -> None:
    """Print it, at once."""
    print(json.dumps(value, indent=indent), flush=True)
