"""The sources of settings: files and variables, a path, a mapping, or an application's own Dynaconf object.

Only this module uses dynaconf. It reads each source separately, and lays it over the earlier ones by our own rules. So
the origin of each value is known. dynaconf's rules of searching, merging and casting do not apply.
"""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._values.problems import Problem
from ..errors import ConfigError
from .around import hints
from .known import (
    ENVIRONMENTS,
    ENVIRONMENTS_OF_ALL,
    ETCD,
    LEADER,
    PREFIX,
    RESERVED,
    SCALARS,
    TELLING,
    option_of,
)
from .owners import refuse_if_written_by_others
from .tables import Section, Tree, lay, meant_variable, normal, table_at

_FILES = tuple(
    f"{folder}{name}"
    for folder in ("", "config/")
    for name in ("settings.toml", "settings.local.toml", ".secrets.toml")
)
_ENVIRONMENTS_ARE = "dynaconf's environments are read only through an object of the application"
_ON_A_COMMAND_LINE = (
    "give a file with plain [leader] and [etcd] tables as --settings FILE, or use "
    f"--settings {os.devnull} --endpoint HOST:PORT"
)
"""The remedy for tables of environments if a command reads the settings: its user cannot pass an object."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The options of a command line, which override all settings. None means that the option was not given.

    Attributes:
        leader: Settings of the election.
        endpoints: The endpoints of etcd.
        enabled_by_default: Election is on, unless a setting switches it off.
    """

    leader: Mapping[str, object] = field(default_factory=dict)
    endpoints: Sequence[str] | None = None
    enabled_by_default: bool = False


class Settings:
    """The settings of all sources.

    Attributes:
        leader: The section of the election.
        etcd: ``[etcd]``.
        found: True if one of the places has a table of the election. A command line does not count.
        places: The places that were searched.
        unreadable: Sources that exist, but could not be read.
    """

    def __init__(self, section: str, *, for_command: bool = False) -> None:
        """Create empty settings.

        Args:
            section: The table of the election; may be dotted.
            for_command: True if a command reads them. The remedies are then those of a command line.

        Raises:
            ConfigError: ``section`` is no valid name of a table.
        """
        self.leader = Section(section, LEADER)
        self.etcd = Section("etcd", ETCD)
        self.found = False
        self._for_command = for_command
        self.places: list[str] = []
        self.unreadable: list[str] = []
        self._tree: Tree = {}
        self._others: list[tuple[str, Mapping[Any, object], str]] = []
        self._around_here = False
        self._may_lack_environments = False
        self._environment: str | None = None
        """The current environment of the given Dynaconf object, if it has environments."""
        if not all(self.leader.path) or self.leader.path == self.etcd.path:
            raise ConfigError(Problem.of("section", section, 'must be the name of a table, such as "leader"'))

    def no_section(self) -> str:
        """Return the problem text for a missing election table, with a likely misspelling."""
        meant = self.misspelled()
        problem = f"there is no [{self.leader.name}] section" + (f"; did you mean {meant}?" if meant else "")
        if meant and f".{self.leader.name}]" in meant:
            remedy = _ON_A_COMMAND_LINE if self._for_command else "settings=Dynaconf(environments=True, ...)"
            problem += f" {_ENVIRONMENTS_ARE}: {remedy}"
        return self.nowhere(problem)

    def misspelled(self) -> str | None:
        """Return the table that has settings of an election and almost the section's name; None if there is none."""
        from difflib import get_close_matches

        for name, table, origin in self._others:
            if get_close_matches(normal(name), self.leader.path[:1]) and _is_an_elections(table[name]):
                return f"[{name}] in {origin}"
            if normal(name) in ENVIRONMENTS and _is_an_elections(table_at(table[name], self.leader.path)):
                return f"[{name}.{self.leader.name}] in {origin}"
        return None

    def nowhere(self, missing: str, section: Section | None = None) -> str:
        """Return the problem that a setting is missing in all places that were searched.

        Args:
            missing: The problem.
            section: The table that lacks the setting; None if the table itself is missing.
        """
        found = list(hints(_FILES)) if self._around_here else []
        if self._may_lack_environments:
            found.append("the tables of environments are read if it is a Dynaconf(environments=True, ...)")
        if self._environment not in (None, "default") and section is not None:
            found.append(
                f"by dynaconf's rules, [{self._environment}.{section.name}] replaces [default.{section.name}] "
                "unless it has dynaconf_merge = true"
            )
        return "; ".join([f"{missing}; looked in {', '.join(self.places)}", *found])

    def read_around_here(self) -> None:
        """Read the files and variables of this process, relative to its working directory only."""
        self._around_here = True
        for name in _FILES:
            self._read_file(Path(name), self._lay_toml, found=True)
        self._read_file(Path(".env"), self._lay_dotenv, found=True)
        self.places.append(f"variables {PREFIX}... (working directory: {_working_directory()})")
        self._lay_variables(os.environ, "")

    def read_toml(self, path: Path) -> None:
        """Read one file, which must exist. The null device is a file without settings."""
        if str(path) == os.devnull:
            self.places.append(os.devnull)
            return
        self._read_file(path, self._lay_toml, found=False)
        if not path.is_file() and not self.unreadable:
            self.unreadable.append(
                f"{path}: {'it is not a regular file' if path.exists() else 'there is no such file'}"
            )

    def read_mapping(self, settings: Mapping[Any, object]) -> None:
        """Read a mapping of tables."""
        self.places.append("the given mapping")
        self._lay(settings, "the given mapping")

    def read_dynaconf(self, settings: Any) -> None:
        """Read an application's object through ``keys`` and ``get``: attributes such as ``store`` are dynaconf's."""
        origin = "the given Dynaconf settings"
        self.leader.evaluated = self.etcd.evaluated = True
        try:
            if settings.get("ENVIRONMENTS_FOR_DYNACONF"):
                self._environment = str(settings.current_env).lower()
                origin += f", environment {self._environment!r}"
            # Other keys are not read: their values may be lazy and fail.
            keys = list(settings.keys())
            self._may_lack_environments = any(normal(key) in ENVIRONMENTS_OF_ALL for key in keys)
            self._lay({key: settings.get(key) for key in keys if self._matters(key)}, origin)
        except Exception as error:  # noqa: BLE001 - the first access runs validators, casts and file reads
            # Its text is left out: that of a validator contains the value.
            self.unreadable.append(f"{origin}: {type(error).__name__} while reading; see settings.as_dict()")
        self.places.append(origin)

    def finish(self, overrides: Overrides) -> None:
        """Lay the command line over the settings, and let each section take its part."""
        section = Section(self.leader.name, self.leader.known)
        section.take(self._tree)
        self.found = section.exists or bool(self.leader.problems)
        for setting, value in overrides.leader.items():
            if value is not None:
                lay(self.leader.tables({setting: value}), option_of(setting), self._tree)
        if overrides.endpoints:
            lay(self.etcd.tables({"endpoints": overrides.endpoints}), "--endpoint", self._tree)
        if overrides.enabled_by_default:
            lay(self.leader.tables({"enabled": True}), "the command", self._tree, over=False)
        for section in (self.leader, self.etcd):
            section.take(self._tree)

    def _refuse_environment(self, name: object, table: object, origin: str) -> None:
        """Report a table that every process reads if dynaconf reads environments, and that is not read here."""
        for section in (self.leader, self.etcd):
            for written, value in table.items() if isinstance(table, Mapping) else ():
                if normal(written) == section.path[0] and table_at({written: value}, section.path) is not None:
                    files = f'settings_files=["{origin}"]' if origin.endswith(".toml") else "..."
                    remedy = f"pass settings=Dynaconf(environments=True, {files})"
                    self.unreadable.append(
                        f"{origin}: [{name}.{written}] is an environment's table. {_ENVIRONMENTS_ARE}: "
                        f"write [{written}], or {_ON_A_COMMAND_LINE if self._for_command else remedy}"
                    )

    def _read_file(self, path: Path, lay_file: Callable[[Path], None], *, found: bool) -> None:
        """Read a file if it exists, and record the result. ``found``: the file was found, not named."""
        there = False
        try:
            there = path.is_file()  # a directory `.env` is ignored
            if there:
                refuse_if_written_by_others(path, found=found)
                lay_file(path)
        except OSError as error:
            self.unreadable.append(f"{path}: cannot be read: {error.strerror}")
        except ValueError as error:
            self.unreadable.append(f"{path}: {error}")
        self.places.append(str(path) if there else f"{path} (not there)")

    def _lay_toml(self, path: Path) -> None:
        if path.suffix != ".toml":
            way = f'pass settings=Dynaconf(settings_files=["{path}"]) to read it'
            raise ValueError(f"is not a .toml file: {'write the settings as TOML' if self._for_command else way}")
        self._lay(_toml(path), str(path))

    def _lay_dotenv(self, path: Path) -> None:
        from dynaconf.vendor.dotenv import dotenv_values

        # The environment does not change, and no $ is replaced: it may be part of a password.
        values = dotenv_values(str(path), interpolate=False, encoding="utf-8-sig")
        self._lay_variables({name: text for name, text in values.items() if text is not None}, f" in {path}")

    def _lay_variables(self, variables: Mapping[str, str], where: str) -> None:
        for name, text in variables.items():
            rest = name[len(PREFIX) :]
            if not name.upper().startswith(PREFIX) or normal(rest) in RESERVED:
                continue
            path = rest.split("__")
            if self._matters(path[0]):
                value = _value_of_variable(path, text)
                for part in reversed(path[1:]):
                    value = {part: value}
                self._lay({path[0]: value}, name + where)
            else:
                for section in (self.leader, self.etcd):
                    if meant := meant_variable(rest, section):
                        section.problems.append(f"{name}{where}: no such setting; did you mean {PREFIX}{meant}?")
                if len(path) > 1:
                    self._others.append((path[0], {path[0]: {path[1]: text}}, name + where))

    def _matters(self, name: object) -> bool:
        return normal(name) in {self.leader.path[0], self.etcd.path[0]}

    def _lay(self, table: Mapping[Any, object], origin: str) -> None:
        others = [name for name in table if not self._matters(name)]
        self._others += [(name, table, origin) for name in others]
        for name in others:
            if normal(name) in ENVIRONMENTS_OF_ALL:
                self._refuse_environment(name, table[name], origin)
        lay({name: table[name] for name in table if self._matters(name)}, origin, self._tree)


def read_settings(settings: object, section: str, overrides: Overrides | None = None) -> Settings:
    """Read settings. Only names are checked here.

    Args:
        settings: A mapping, a path, an application's Dynaconf object, or None for the process's files and variables.
        section: The table of the election; may be dotted.
        overrides: The options of a command line; None: no command reads them.

    Raises:
        ConfigError: ``section`` is no valid name of a table.
        TypeError: ``settings`` has none of these types.
    """
    read = Settings(section, for_command=overrides is not None)
    if settings is None:
        read.read_around_here()
    elif _is_dynaconf(type(settings)):  # before any `isinstance`, which would make it load its files, and possibly fail
        read.read_dynaconf(settings)
    elif isinstance(settings, Mapping):
        read.read_mapping(settings)
    elif isinstance(settings, str | os.PathLike):
        read.read_toml(Path(settings))
    else:
        raise TypeError(f"settings must be a Dynaconf object, a mapping or a path, not {type(settings).__name__}")
    read.finish(overrides or Overrides())
    return read


def _is_dynaconf(kind: type) -> bool:
    """Return True for a class of settings objects, without importing dynaconf: a program with such an object has."""
    return any(
        base.__module__.startswith("dynaconf.") and base.__name__ in {"LazySettings", "Settings"}
        for base in kind.__mro__
    )


def _is_an_elections(table: object) -> bool:
    return isinstance(table, Mapping) and any(normal(setting) in TELLING for setting in table)


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "it was removed"  # variables are still read


def _toml(path: Path) -> Mapping[str, object]:
    """Return the tables of a file unchanged.

    The file is read by dynaconf's parser, but not by its loader. The loader differs in these ways:

    - It searches parent directories for files.
    - It reads other files beside this one: ``dynaconf_hooks.py`` and includes.
    - It takes options from variables ``..._FOR_DYNACONF``.
    - It interprets strings with ``@``, keys with dots, and tables that are named after an environment.
    - It keeps only one of two tables whose names differ in case.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is not TOML.
    """
    from dynaconf.vendor import tomllib

    with path.open("rb") as file:
        if file.read(len(BOM_UTF8)) == BOM_UTF8:
            raise ValueError("begins with a byte order mark, which TOML does not have: save it as UTF-8 without")
        file.seek(0)
        tables: Mapping[str, object] = tomllib.load(file)
    return tables


def _value_of_variable(path: list[str], text: str) -> object:
    """Return a variable's value as dynaconf reads it, except that ``@`` has no meaning and a scalar is not converted.

    A scalar such as 0123 may be a password.
    """
    if text[:1] in {'"', "'", "[", "{"}:
        from dynaconf.utils.parse_conf import parse_conf_data

        value: object = parse_conf_data(text, tomlfy=True, box_settings={"AUTO_CAST_FOR_DYNACONF": False})
        if isinstance(value, str) or (isinstance(value, list | dict) and normal(path[-1]) not in SCALARS):
            return value
    return text
