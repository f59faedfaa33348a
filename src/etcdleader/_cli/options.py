"""The options and arguments that commands share, and the etcd configuration that results from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

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
    """Return a typer option that converts a duration to seconds.

    Args:
        text: The help of the option.
        names: The names of the option, as for ``typer.Option``.
        zero: Whether zero is allowed.
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
    """Split at commas. The endpoints are checked with the settings, so that all problems are reported together."""
    return [part for value in values for part in value.split(",")] if values else values


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", callback=_name, show_default=False, help="The election_key of the election.")
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", callback=_name, show_default=False, help="The election_key of the election."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        show_default=False,
        help="Read only this TOML file. By default, the command reads settings.toml, settings.local.toml, .secrets.toml, the same files under "
        "config/, .env, and variables ETCDLEADER_...",
    ),
]
SectionOption = Annotated[
    str | None,
    typer.Option(
        "--section",
        metavar="TABLE",
        show_default="leader",
        help="The table of the election's settings; it may be dotted. If given, it must exist.",
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
        help="The endpoint of etcd, instead of the setting etcd.endpoints. Repeat it for several endpoints, or separate "
        "them by commas. User, password and certificates still come from the settings.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TimeoutOption = Annotated[Any, duration_option('Timeout of each call to etcd: "5s", "500ms".', "--timeout")]


Command: TypeAlias = Callable[..., None]


def examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command its help: its docstring without the line breaks inside paragraphs, which typer keeps, and examples."""

    def give(command: Command) -> Command:
        help_text = "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))
        epilog = "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])
        vars(command)["help_options"] = {"help": help_text, "epilog": epilog}
        return command

    return give


def etcd_config(settings: Path | None, endpoints: Sequence[str] | None) -> EtcdConfig:
    """Return the etcd configuration from the settings and the options.

    Raises:
        ConfigError: The settings are wrong. It lists all problems.
    """
    from .._settings.resolve import resolve_etcd

    return resolve_etcd(settings, endpoints, remedy="use --endpoint HOST:PORT")
