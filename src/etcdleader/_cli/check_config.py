"""``etcdleader check-config``: what the settings say, or all that is wrong with them. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .._settings.known import SECRETS
from ..config import Config, EtcdConfig, check_election_key
from ..errors import ConfigError
from .exit_codes import ExitCode, told
from .options import DEFAULT_SECTION, JsonOption, SectionOption, SettingsOption, examples
from .output import clean, console, print_whole, write_json

if TYPE_CHECKING:
    from .._settings.sources import Settings

__all__ = ("EPILOG", "Read", "Setting", "check_config", "read_all")

EPILOG = examples(
    "etcdleader check-config",
    "etcdleader check-config --settings /etc/jobs/settings.toml --section sync.election",
)

_NEEDED_BY_PROGRAM = "any"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as it will be used."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Read:
    """What the settings amount to.

    Attributes:
        exists: There is a table of the election.
        problems: All that is wrong, in the words of the library.
        places: Where was looked.
        settings: In order; empty when there are problems.
        config: The election's; None when there are problems with it.
        etcd: Where etcd is; None when nothing says so, or with problems.
        election_key: None when the program has to say it, or when what is said cannot be one.
        no_section: The one of the problems that says that there is no table of the election; None if there is one, or
            if another table is probably it, with a misspelled name.
    """

    exists: bool
    problems: tuple[str, ...]
    places: tuple[str, ...]
    settings: tuple[Setting, ...]
    config: Config | None
    etcd: EtcdConfig | None
    election_key: str | None
    no_section: str | None = None


def check_config(
    settings: SettingsOption = None,
    section: SectionOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Say what the settings are and where each came from, or everything that is wrong with them.

    It reads what a program in this directory and this environment would read, opens no connection, and shows no
    password.

    Exit status: 0, or 78 when something is wrong.
    """
    with told():
        read = read_all(settings, DEFAULT_SECTION if section is None else section)
        if as_json:
            write_json(_json(read))
        elif not read.problems:
            _print(read)
    if read.problems:
        if not as_json:
            typer.echo("\n".join(clean(problem) for problem in read.problems), err=True)
        raise typer.Exit(ExitCode.CONFIG)


def read_all(settings: Path | None, section: str, endpoints: Sequence[str] | None = None) -> Read:
    """Read the settings, and judge them as the program will.

    Args:
        settings: A file, or None for what lies around here.
        section: The election's table.
        endpoints: Instead of those in the settings.
    """
    from .._settings.sources import read_settings
    from ..factory import must_new_leader_manager_from_config

    try:
        read = read_settings(settings, section)
    except ConfigError as error:
        return Read(False, error.problems, (), (), None, None, None)  # noqa: FBT003 - a field
    key = read.leader.values.get("election_key")
    problems: list[str] = []
    etcd: EtcdConfig | None = None
    if read.etcd.exists or endpoints:
        values: dict[str, Any] = {**read.etcd.values, **({"endpoints": endpoints} if endpoints else {})}
        if "endpoints" in values:  # whether they are needed is the factory's to say
            try:
                etcd = EtcdConfig(**values)
            except ConfigError as error:
                problems += [read.etcd.explain(problem) for problem in error.problems]
        problems += read.etcd.problems
    config: Config | None = None
    try:
        manager = must_new_leader_manager_from_config(
            None if key is not None else _NEEDED_BY_PROGRAM,
            client=etcd if endpoints else None,
            settings=settings,
            section=section,
        )
        config = manager.config
    except ConfigError as error:
        problems = [*error.problems, *(problem for problem in problems if problem not in error.problems)]
    return Read(
        exists=read.leader.exists,
        problems=tuple(problems),
        places=tuple(read._places),  # noqa: SLF001 - of this package
        settings=() if problems or config is None else tuple(_settings(read, config, etcd, overruled=bool(endpoints))),
        config=config,
        etcd=etcd,
        election_key=_election_key(key),
        no_section=None if read.leader.exists or read.misspelled() else read.no_section(),
    )


def _election_key(key: object) -> str | None:
    try:
        check_election_key(key)  # type: ignore[arg-type]  # that it may be something else is why it is checked
    except ConfigError:
        return None
    return str(key)


def _settings(read: Settings, config: Config, etcd: EtcdConfig | None, *, overruled: bool) -> list[Setting]:
    found = []
    tables: list[tuple[Any, object, dict[str, object]]] = [(read.leader, config, {"election_key": None})]
    if etcd is not None:
        tables.append((read.etcd, etcd, {}))
    for section, made, beside in tables:
        origins = section._origins  # noqa: SLF001 - of this package
        for name in section.known:
            value = section.values.get(name) if name in beside else getattr(made, name)
            origin = "--endpoint" if overruled and name == "endpoints" else origins.get(name, "default")
            found.append(Setting(f"{section.name}.{name}", _shown(name, value), origin))
    return found


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


def _budget(config: Config) -> str:
    needed = config.renew + 2 * config.retry + config.margin
    return f"renew + 2 * retry + margin = {needed:g}s, of a lease of {config.lease:g}s"


def _print(read: Read) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for setting in read.settings:
        style = "dim" if setting.origin == "default" else ""
        table.add_row(*(Text(clean(text)) for text in (setting.name, setting.value, setting.origin)), style=style)
    print_whole(screen, table)
    assert read.config is not None
    screen.print(Text(f"\n{_budget(read.config)}"), soft_wrap=True)
    if not read.config.enabled:
        screen.print(Text("Election is off: each process that reads these settings leads by itself."), style="yellow")
    elif read.election_key is None:
        screen.print("The program has to say the election key.")
    screen.print(Text(f"Looked in {clean(', '.join(read.places))}"), style="dim", soft_wrap=True)


def _json(read: Read) -> dict[str, Any]:
    return {
        "ok": not read.problems,
        "problems": list(read.problems),
        "settings": {setting.name: {"value": setting.value, "origin": setting.origin} for setting in read.settings},
        "places": list(read.places),
    }
