"""``etcdleader check-config``: print the settings, or all problems with them. It opens no connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .._settings.known import SECRETS
from .._values.exit_codes import ExitCode
from .exit_on_error import exit_on_error
from .options import DEFAULT_SECTION, JsonOption, SectionOption, SettingsOption, examples
from .output import console, print_whole, printable, write_json

if TYPE_CHECKING:
    from .._settings.resolve import Resolved


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as a program will use it."""

    name: str
    value: str
    origin: str


@examples(
    "etcdleader check-config",
    "etcdleader check-config --settings /etc/jobs/settings.toml --section sync.election",
)
def check_config(
    settings: SettingsOption = None,
    section: SectionOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Print each setting and its source, or everything that is wrong with the settings.

    Reads the same settings as a program in this directory with this environment. Opens no connection, and shows no
    password.

    Exit status: 0, or 78 if something is wrong.
    """
    with exit_on_error():
        read = read_all(settings, DEFAULT_SECTION if section is None else section)
        if as_json:
            write_json(_json(read))
        elif not read.problems:
            _print(read)
    if read.problems:
        if not as_json:
            typer.echo("\n".join(printable(problem) for problem in read.problems), err=True)
        raise typer.Exit(ExitCode.CONFIG)


def read_all(settings: Path | None, section: str, endpoints: Sequence[str] | None = None) -> Resolved:
    """Read and check the settings as a program will.

    Args:
        settings: A settings file, or None for the default files and the environment.
        section: The table of the election.
        endpoints: The endpoints to use instead of those in the settings; None to use the settings.
    """
    from .._settings.resolve import Purpose, resolve
    from .._settings.sources import Overrides

    purpose = Purpose(key_remedy=None, checks_etcd_when_off=True)  # the program may pass the key
    return resolve(settings, section, overrides=Overrides(endpoints=endpoints), purpose=purpose)


def settings_of(read: Resolved) -> list[Setting]:
    """Return all settings in order, as a program will use them. Return no settings if something is wrong."""
    if read.problems:
        return []
    return [
        Setting(
            f"{section.name}.{name}", _shown(name, getattr(made, name, section.values.get(name))), section.origin(name)
        )
        for section, made in zip(read.sections, (read.config, read.etcd), strict=False)
        if made is not None
        for name in section.known
    ]


def _shown(name: str, value: object) -> str:
    if value is None:
        return "not set"
    if name in SECRETS:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}s"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _print(read: Resolved) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for setting in settings_of(read):
        style = "dim" if setting.origin == "default" else ""
        table.add_row(*(Text(printable(text)) for text in (setting.name, setting.value, setting.origin)), style=style)
    print_whole(screen, table)
    config = read.config
    assert config is not None
    needed = config.renew + 2 * config.retry + config.margin
    budget = f"\nrenew + 2 * retry + margin = {needed:g}s, of a lease of {config.lease:g}s"
    screen.print(Text(budget), soft_wrap=True)
    if not config.enabled:
        screen.print(
            Text("Election is off: each process with these settings leads, without an election."), style="yellow"
        )
    elif not read.election_key:
        screen.print("No election_key is set: the program must pass it.")
    screen.print(Text(f"Searched: {printable(', '.join(read.places))}"), style="dim", soft_wrap=True)


def _json(read: Resolved) -> dict[str, Any]:
    return {
        "ok": not read.problems,
        "problems": list(read.problems),
        "settings": {setting.name: {"value": setting.value, "origin": setting.origin} for setting in settings_of(read)},
        "places": list(read.places),
    }
