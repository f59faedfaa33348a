"""The options and arguments that commands share, and where etcd is by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .._values.durations import parse_duration
from ..config import EtcdConfig, validate_election_key
from ..errors import ConfigError


def _name(value: str | None) -> str | None:
    if value is not None:
        try:
            validate_election_key(value)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def duration_option(text: str, *names: str, zero: bool = False) -> Any:
    """An option whose value becomes seconds.

    Args:
        text: Its help.
        names: As for ``typer.Option``.
        zero: Zero is allowed.
    """

    def seconds(value: str) -> float:
        try:
            typed = parse_duration(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if typed < 0 or (typed == 0 and not zero):
            raise typer.BadParameter("must not be negative" if zero else "must be positive")
        return typed

    return typer.Option(*names, metavar="DURATION", parser=seconds, help=text)


def _endpoints(values: list[str] | None) -> list[str] | None:
    """Each endpoint by itself. What it may be is checked with the settings, so that all that is wrong comes at once."""
    return [part for value in values for part in value.split(",")] if values else values


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
    str | None,
    typer.Option(
        "--section",
        metavar="TABLE",
        show_default="leader",
        help="The table of the election's settings; may be dotted. It must exist if it is given.",
    ),
]
DEFAULT_SECTION = "leader"
EndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="HOST:PORT",
        show_default=False,
        callback=_endpoints,
        help="Where etcd is, instead of the setting etcd.endpoints; several are repeated, or separated by commas. User, password and certificates "
        "are still those of the settings.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TimeoutOption = Annotated[Any, duration_option('How long each call may take: "5s", "500ms".', "--timeout")]


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
    from .._settings.resolve import resolve_etcd

    return resolve_etcd(settings, endpoints, remedy="say --endpoint HOST:PORT")
